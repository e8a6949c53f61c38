"""Owns which tests `make test` and `make test-all` run, beside each other, and their figures in
build/.

Most tests wait for processes, so several workers run them: each one file after another, so that
what a file shares is made once. The last line is pytest's own: whoever reads only that knows what
happened.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Long files first, short ones at the end, where they fill what is left. Simulation takes a whole
# core: not beside chaos.
ROOMS = ["chaos", "system", "simulation", "mesh", "clients", "integration", "contract", "checkers"]
ROOMS += ["house", "unit"]
# Their files share what only one worker can have: one cloud, one folder of made programs.
TOGETHER = {"tests/clients"}
WORKERS = min(4, max(2, os.cpu_count() or 2))
FRESH = ROOT / "tests" / "fresh" / "run"
FRESH_DEADLINE_S = 3600


class Figures:
    """Counts how the tests ended, whichever worker ran them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Gives workers whole files, in the order of the rooms."""
        # Later than pytest itself, which rewrites the asserts of its plugins.
        from xdist.scheduler import LoadFileScheduling

        class Scheduling(LoadFileScheduling):
            def _split_scope(self, nodeid: str) -> str:
                path = nodeid.partition("::")[0]
                return next((room for room in TOGETHER if path.startswith(f"{room}/")), path)

        return Scheduling(config, log)

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


def workers(paths: list[pathlib.Path]) -> list[str]:
    """How pytest is told of the workers: one process is enough for one file, and lets itself be
    looked into (`-s`, `--pdb`).
    """
    if len(paths) == 1 and paths[0].is_file():
        return []
    return ["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"]


def main(word: str, arguments: list[str]) -> int:
    """Runs the tests of that word; further arguments go to pytest, paths instead of all rooms."""
    os.chdir(ROOT)
    began = time.monotonic()
    everything = word == "test-all"
    fresh_passed = fresh() if everything and FRESH.exists() else None
    chosen = ["--hypothesis-profile=all"] if everything else ["-m", "not slow"]
    rooms = [f"tests/{room}" for room in ROOMS if (ROOT / "tests" / room).is_dir()]
    figures = Figures()
    asked = [path for word in arguments if (path := pathlib.Path(word.partition("::")[0])).exists()]
    where = [] if asked else rooms
    code = int(pytest.main([*chosen, *workers(asked), *where, *arguments], [figures]))
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
