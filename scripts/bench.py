"""Owns `make bench`: runs what is in tests/bench, one after another, figures in build/: bench.json
is a list of rows of the front door, bench-NAME.json what the others found.

Judges nothing: figures depend on the machine and on what else it does. docs/performance.md says how
to read them.
"""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
# What each writes below build/.
BENCHES = {
    "scheduler": "bench-scheduler.json",
    "lifecycle": "bench-lifecycle.json",
    "front": "bench.json",
}
DEADLINE_S = 1200
# For a bench that was interrupted to end its cloud.
ENDING_S = 120


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
        in_time = ran([sys.executable, "-m", module], deadline_s=DEADLINE_S)
        if not (in_time and result.exists()):
            missing.append(name)
    print(f"\nfigures: {', '.join(f'build/{BENCHES[name]}' for name in named)}")
    if missing:
        print(f"did not come to an end: {', '.join(missing)}")
    return bool(missing)


def ran(argv: Sequence[str], *, deadline_s: float) -> bool:
    """Whether it came to its end in time. One that did not is interrupted, as by Ctrl-C, so that it
    ends the cloud it started: that would run on, and be in every later figure.
    """
    with subprocess.Popen(argv, cwd=ROOT) as running:
        try:
            running.wait(deadline_s)
        except subprocess.TimeoutExpired:
            print(f"not done in {deadline_s:g} s: interrupted", flush=True)
            running.send_signal(signal.SIGINT)
            try:
                running.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                running.kill()
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
