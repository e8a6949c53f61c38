"""Goal: what is measured is every process, and a bench that does not end leaves nothing running."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bench
from services.cli.logic.home import Home
from tests.bench.meters import Meter, spent_ms
from tests.clouds import Cloud
from tests.engines import end

ENDLESS = """
import pathlib, sys, time
try:
    time.sleep(3600)
finally:
    pathlib.Path(sys.argv[1]).write_text("its cloud is down")
"""
BUSY = """
import sys, time
while time.process_time() < float(sys.argv[1]):
    pass
print("done", flush=True)
time.sleep(3600)
"""


def test_a_bench_that_takes_too_long_is_missing_and_ends_what_it_started(tmp_path: Path) -> None:
    left = tmp_path / "left"
    assert not bench.ran([sys.executable, "-c", ENDLESS, str(left)], deadline_s=1)
    assert left.read_text() == "its cloud is down"


def test_a_bench_that_ends_is_there(tmp_path: Path) -> None:
    assert bench.ran([sys.executable, "-c", "pass"], deadline_s=60)


class Running(Cloud):
    """A cloud of one service, as far as a meter looks."""

    pid = 0

    def services(self) -> dict[str, list[dict[str, Any]]]:
        return {"api": [{"pid": self.pid}]}


@contextmanager
def busy(seconds: float) -> Iterator[int]:
    """A process that has used so much CPU, and rests."""
    argv = [sys.executable, "-c", BUSY, str(seconds)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        yield process.pid
    finally:
        end(process)


def test_the_cpu_of_a_cloud_is_that_of_its_services_and_of_their_supervisor(tmp_path: Path) -> None:
    of = Running(tmp_path, 1)
    with busy(0.3) as supervisor, busy(0.6) as of.pid:
        state = Home(tmp_path).state_file
        state.parent.mkdir()
        state.write_text(json.dumps({"pid": supervisor}))
        read = Meter(of).read()
    assert set(read) == {"api", "client", "supervisor"}
    assert 0.2 < read["supervisor"] < read["api"]
    spent = spent_ms(dict.fromkeys(read, 0.0), read, units=1)
    assert round(spent["cloud"]) == round(1000 * (read["api"] + read["supervisor"]))
