"""Owns which tests `make test` and `make test-all` run, and their figures in build/.

The last line is pytest's own, so that whoever reads only that knows what happened.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections import Counter

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ["house", "unit", "contract", "integration", "system", "clients", "mesh"]
FRESH = ROOT / "tests" / "fresh" / "run"
FRESH_DEADLINE_S = 3600


class Figures:
    """Counts how the tests ended."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test when it was called, or when it never came to that."""
        if report.when == "call" or report.failed:
            self.counts[report.outcome] += 1
        if report.failed:
            self.failed.append(report.nodeid)


def fresh() -> bool:
    """The whole on a fresh Debian, which is a script: it starts outside of any environment."""
    print(f"tests/fresh/run (at most {FRESH_DEADLINE_S // 60} minutes)", flush=True)
    ended = subprocess.run([str(FRESH)], cwd=ROOT, timeout=FRESH_DEADLINE_S, check=False)
    return ended.returncode == 0


def main(word: str, arguments: list[str]) -> int:
    """Runs the tests of that word; further arguments go to pytest, paths instead of all rooms."""
    os.chdir(ROOT)
    began = time.monotonic()
    everything = word == "test-all"
    fresh_passed = fresh() if everything and FRESH.exists() else None
    chosen = ["--hypothesis-profile=all"] if everything else ["-m", "not slow"]
    rooms = [f"tests/{room}" for room in ROOMS if (ROOT / "tests" / room).is_dir()]
    figures = Figures()
    asked = any(pathlib.Path(word.partition("::")[0]).exists() for word in arguments)
    where = [] if asked else ["tests"] if everything else rooms
    code = int(pytest.main([*chosen, *where, *arguments], [figures]))
    written = {
        "passed": figures.counts["passed"] + (fresh_passed is True),
        "failed": len(figures.failed) + (fresh_passed is False),
        "failures": figures.failed + ["tests/fresh/run"] * (fresh_passed is False),
        "fresh": fresh_passed,
        "seconds": round(time.monotonic() - began, 1),
    }
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / f"{word}.json").write_text(json.dumps(written, indent=2) + "\n")
    return code or int(fresh_passed is False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
