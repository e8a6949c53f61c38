"""A cloud of the test's own, started by the command `stead` in a short home on a free port.

Ends what it started by the pids and start times that the supervisor wrote down.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.cli.edges.processes import start_ticks
from tests.engines import free_port

STEAD = Path(sys.executable).parent / "stead"
PATIENCE_S = 120


@dataclass
class Launched:
    """One home; `stead(...)` is one call of the command in it."""

    home: Path
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def variables(self) -> dict[str, str]:
        """The environment of every call: nothing of stead's but what the test says."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("STEAD_")}
        return {**kept, "STEAD_HOME": str(self.home), **self.environment}

    def stead(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Runs the command to its end, `typed` coming through a pipe."""
        assert STEAD.exists(), "the command stead is missing: run `make setup`"
        return subprocess.run(
            [STEAD, *words],
            env=self.variables(),
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def ok(self, *words: str) -> str:
        """What a call that must succeed prints."""
        ended = self.stead(*words)
        assert ended.returncode == 0, f"stead {' '.join(words)}: {ended.stderr}"
        return ended.stdout

    def ask(self, *words: str) -> Any:
        """The JSON that a call that must succeed prints."""
        return json.loads(self.ok(*words, "--output", "json"))

    def refused(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit code and error of a call that must not succeed."""
        ended = self.stead(*words, "--output", "json")
        assert ended.returncode != 0, ended.stdout
        return ended.returncode, json.loads(ended.stderr.strip().splitlines()[-1])

    def up(self, *flags: str) -> str:
        """Brings it up in the background with fake hosts; what the command said."""
        words = ("up", "--detach", "--listen", self.endpoint, "--driver", "fake", *flags)
        ended = self.stead(*words)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    def state(self) -> dict[str, Any]:
        """What the supervisor wrote down."""
        return dict(json.loads((self.home / "run" / "state.json").read_text()))

    def pids(self) -> dict[str, int]:
        """The pid of each running process by its name."""
        seats = self.state()["seats"]
        return {f"{s['name']}-{s['replica']}": s["pid"] for s in seats if s["pid"]}

    def supervisor(self) -> int:
        """Its pid."""
        return int(self.state()["pid"])

    def healthy(self) -> bool:
        """Whether `stead status` says so."""
        return self.stead("status").returncode == 0

    def end(self) -> None:
        """Ends all that this home started."""
        with contextlib.suppress(OSError, ValueError):
            state = self.state()
            for entry in ({**state, "label": "supervisor"}, *state["seats"]):
                if entry["pid"] and start_ticks(entry["pid"]) == entry["started"]:
                    os.kill(entry["pid"], signal.SIGKILL)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that must come."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def short_home() -> Iterator[Path]:
    """A folder whose path leaves room for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    try:
        yield folder / "h"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def launched() -> Iterator[Launched]:
    """A cloud that is not up yet."""
    with short_home() as home:
        cloud = Launched(home)
        try:
            yield cloud
        finally:
            cloud.stead("down")
            cloud.end()
