"""The cloud under test as a user starts it, `stead up` in a home of its own, and the disks that
it stands on: small file systems that only this process and its children see.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.cli.edges.engines import postgres
from services.cli.edges.processes import start_ticks
from tests.chaos.mutants import MUTANTS
from tests.clouds import Cloud
from tests.engines import PG_BIN

FAKE_HOSTS = 6
ROWS_S = 20.0
DISK_MIB = {"hosts": 1024, "database": 4096}
FOLDERS = {"hosts": "hosts.disk", "database": "database.disk"}
CLOCK_MODULE = "libfaketime"
CLOCK = Path(__file__).parent / "clock"


@dataclass(frozen=True, slots=True)
class Seat:
    """One process of the cloud, as the supervisor wrote it down."""

    label: str
    name: str
    pid: int
    started: int
    state: str
    endpoint: str
    restarts: int
    stop_signal: int

    def runs(self) -> bool:
        """Whether this very process is there."""
        return bool(self.pid) and start_ticks(self.pid) == self.started


class ChaosCloud(Cloud):
    """A cloud of fake hosts and, with `real`, one of libvirt."""

    def __init__(self, home: Path, port: int, *, real: bool, mutant: str = "") -> None:
        super().__init__(home, port)
        self.real = real
        self.mutant = mutant
        self.clock_file = home.parent / "clock"
        self.environment |= {
            # tiny asks for 64 of these: it never fits the real host, and `real` no fake one.
            "STEAD_COMPUTE_FAKE_VCPUS": "2048",
            "STEAD_COMPUTE_FAKE_MEMORY_MIB": "180",
            "STEAD_COMPUTE_FAKE_DELAY_S": "0.2",
            "STEAD_CONDUCTOR_QUOTA_INSTANCES": "12",
            "PYTHONPATH": os.pathsep.join(
                [
                    str(CLOCK),
                    *filter(None, [os.environ.get("PYTHONPATH", "")]),
                    *([str(CLOCK.parents[2])] if mutant else []),
                ]
            ),
            "CHAOS_MUTANT": mutant,
            "CHAOS_CLOCK_LIBRARY": str(clock_library()),
            "CHAOS_CLOCK_FILE": str(self.clock_file),
        }

    def prepare(self) -> None:
        """Mounts the disks; the caller has a mount namespace of its own."""
        self.clock_file.write_text("+0\n")
        self.home.mkdir(mode=0o700)
        for disk in FOLDERS:
            self._disk(disk).mkdir(mode=0o700)
            mount(self._disk(disk), f"size={DISK_MIB[disk]}m,mode=0700")
        # A cluster is made aside and renamed, which a mount point would not bear.
        postgres.make_cluster(PG_BIN, self._disk("database") / "postgres")
        (self._disk("hosts") / "compute").mkdir(mode=0o700)
        for place in (self._disk("database") / "postgres", self._disk("hosts") / "compute"):
            (self.home / place.name).mkdir(mode=0o700)
            bind(place, self.home / place.name)

    def start(self) -> None:
        """Brings it up."""
        drivers = ["--driver", "fake", *(["--driver", "qemu"] if self.real else [])]
        self.run(
            "up", "--detach", "--listen", self.endpoint, *drivers,
            "--fake-hosts", str(FAKE_HOSTS), "--api-replicas", "2",
        )  # fmt: skip
        if self.mutant and MUTANTS[self.mutant].sql:
            self.sql(MUTANTS[self.mutant].sql)

    def seats(self) -> dict[str, Seat]:
        """Every process by its label."""
        state = json.loads((self.home / "run" / "state.json").read_text())
        found = {}
        for row in state["seats"]:
            label = row["name"] if row["replica"] == 0 else f"{row['name']}-{row['replica']}"
            found[label] = Seat(
                label, row["name"], row["pid"], row["started"], row["state"], row["endpoint"],
                row["restarts"], row["stop_signal"],
            )  # fmt: skip
        return found

    def token_of(self, project_id: str) -> str:
        """A member's token."""
        return self.run(
            "token", "create", "--project", project_id, "--role", "member", "--for", "1d"
        ).stdout.strip()

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """Rows of the cloud's own database as objects, from outside. Raises RuntimeError where it
        cannot be asked for long.
        """
        until_s = time.monotonic() + ROWS_S
        while True:
            try:
                return await self._rows(statement)
            except RuntimeError:
                if time.monotonic() > until_s:
                    raise
            await asyncio.sleep(0.2)

    async def _rows(self, statement: str) -> list[dict[str, Any]]:
        asked = f"SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM ({statement}) t"  # our own
        process = await asyncio.create_subprocess_exec(
            str(PG_BIN / "psql"), "-X", "-qAt", "-h", str(self.home / "run"), "-U", "stead",
            "-d", "stead", "-c", asked,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            told, complaint = await asyncio.wait_for(process.communicate(), 60)
        except TimeoutError:
            process.kill()
            raise RuntimeError("psql does not answer") from None
        if process.returncode != 0:
            raise RuntimeError(complaint.decode(errors="replace"))
        return list(json.loads(told))

    def fill(self, disk: str) -> None:
        """Leaves no room on a disk."""
        place = self._disk(disk)
        found = os.statvfs(place)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        mount(place, f"remount,size={used + 4096}")

    def is_full(self, disk: str) -> bool:
        """Whether there is no room left."""
        return os.statvfs(self._disk(disk)).f_bfree <= 1

    def empty(self, disk: str) -> None:
        """Gives the disk its room back."""
        mount(self._disk(disk), f"remount,size={DISK_MIB[disk]}m")

    def _disk(self, disk: str) -> Path:
        return self.home.parent / FOLDERS[disk]


def mount(place: Path, options: str) -> None:
    """Mounts a file system in memory, or mounts it anew."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(place)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def bind(place: Path, at: Path) -> None:
    """Shows a folder at another place too."""
    subprocess.run(
        ["mount", "--bind", str(place), str(at)], check=True, capture_output=True, timeout=60
    )


def clock_library() -> Path:
    """The library that shifts a process's clock."""
    places = [Path(folder) for folder in sys.path if folder]
    found = [p for f in places for p in f.glob(f"{CLOCK_MODULE}/vendor/**/libfaketime.so.1")]
    assert found, "libfaketime is missing: run `make setup`"
    return found[0]
