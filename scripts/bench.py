"""Owns `make bench`: runs what is in tests/bench, one after another, figures in build/bench.json.

Judges nothing: figures depend on the machine and on what else it does. docs/performance.md says how
to read them.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
BENCHES = ("scheduler", "lifecycle")
DEADLINE_S = 220


def main() -> int:
    """Runs each; the exit code says whether all of them came to their end."""
    BUILD.mkdir(exist_ok=True)
    began = time.monotonic()
    figures: dict[str, object] = {}
    for name in BENCHES:
        print(f"\n{name}", flush=True)
        result = BUILD / f"bench-{name}.json"
        result.unlink(missing_ok=True)
        module = f"tests.bench.bench_{name}"
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, timeout=DEADLINE_S, check=False)
        if result.exists():
            figures[name] = json.loads(result.read_text())
    missing = [name for name in BENCHES if name not in figures]
    figures |= {"missing": missing, "seconds": round(time.monotonic() - began, 1)}
    (BUILD / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\nfigures: build/bench.json ({figures['seconds']} s)")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
