"""`make sim`: runs seeds through the simulation, tells which broke what, writes build/sim.json.

python -m tests.simulation --seeds 1000 --ops 200     that many new seeds
python -m tests.simulation --seed 5 --ops 100         one seed, again exactly the same
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path

from tests.simulation.nemesis import shape_of
from tests.simulation.seeds import Tally, judged, restored, run_seeds

BUILD = Path("build")


def main() -> int:
    """The exit code: 0 only if nothing was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many new seeds")
    parser.add_argument("--seed", type=int, help="one seed, again")
    parser.add_argument("--ops", type=int, default=100, help="operations of each seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--restored", action="store_true", help="set the database back once")
    asked = parser.parse_args()
    shaped = restored if asked.restored else shape_of
    if asked.seed is not None:
        found = judged(asked.seed, asked.ops, shaped)
        tally = Tally(asked.ops, " RESTORED=1" if asked.restored else "")
        tally.add(found)
        print(f"seed {found.seed} ops {asked.ops} trace {found.trace} faults {found.faults}")
    else:
        first = secrets.randbits(40)
        tally = run_seeds(first, asked.ops, least=asked.seeds, workers=asked.workers, shaped=shaped)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "sim.json").write_text(json.dumps(tally.figures(), indent=2) + "\n")
    print(tally.told())
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
