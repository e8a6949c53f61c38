"""Owns `make bench`: runs what is in tests/bench, one after another, figures in build/: bench.json
is a list of rows of the front door, bench-NAME.json what the others found.

Judges nothing: figures depend on the machine and on what else it does. docs/performance.md says how
to read them.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
# What each writes below build/.
BENCHES = {
    "scheduler": "bench-scheduler.json",
    "lifecycle": "bench-lifecycle.json",
    "front": "bench.json",
}
DEADLINE_S = 1200


def main() -> int:
    """Runs each, or those named; the exit code says whether all of them came to their end."""
    BUILD.mkdir(exist_ok=True)
    named = sys.argv[1:] or list(BENCHES)
    unknown = sorted(set(named) - set(BENCHES))
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 2
    missing = []
    for name in named:
        print(f"\n{name}", flush=True)
        result = BUILD / BENCHES[name]
        result.unlink(missing_ok=True)
        module = f"tests.bench.bench_{name}"
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, timeout=DEADLINE_S, check=False)
        if not result.exists():
            missing.append(name)
    print(f"\nfigures: {', '.join(f'build/{BENCHES[name]}' for name in named)}")
    if missing:
        print(f"did not come to an end: {', '.join(missing)}")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
