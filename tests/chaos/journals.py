"""What really ran on the fake hosts: their journals, followed while they grow; and on the real one,
by libvirt's own word. Owns no judgement.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.compute.edges.drivers.fake_journal import JOURNAL, read_guests
from services.domain.instance import ALIVE, Power
from tests.chaos.homes import ChaosCloud
from tests.checkers.history import HostEvent, What

LOOK_S = 0.1


class Follower:
    """Reads what the hosts append, and tells of each start and stop."""

    def __init__(self, cloud: ChaosCloud) -> None:
        self.events: list[HostEvent] = []
        self._cloud = cloud
        self._places: dict[Path, tuple[int, int]] = {}
        self._dated: dict[tuple[str, str, int], float] = {}
        self._guests: dict[tuple[str, str, int], dict[str, Any]] = {}

    async def follow(self) -> None:
        """Looks again and again until cancelled."""
        before_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            self.look(before_s, now_s)
            before_s = now_s
            await asyncio.sleep(LOOK_S)

    def look(self, before_s: float, now_s: float) -> None:
        """Takes what is new. A start is dated as late, an end as early as it may have been."""
        for path in sorted((self._cloud.home / "compute").glob(f"**/{JOURNAL}")):
            for record in self._records(path):
                self._take(path.parent.name, record, before_s=before_s, now_s=now_s)

    def _records(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            with path.open("rb") as file:
                inode = path.stat().st_ino
                known, place = self._places.get(path, (inode, 0))
                # Written anew: all of it once more, and what is as it was tells nothing new.
                file.seek(place if known == inode else 0)
                content = file.read()
                start = file.tell() - len(content)
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._places[path] = (inode, start + len(whole))
        for line in whole.splitlines():
            yield json.loads(line)

    def _take(self, host_id: str, record: dict[str, Any], *, before_s: float, now_s: float) -> None:
        def note(what: What, at_s: float) -> None:
            # What one look finds of one claim still happened in its order.
            key = (host_id, *claim)
            self._dated[key] = max(at_s, self._dated.get(key, 0.0))
            self.events.append(HostEvent(host_id, claim[0], claim[1], what, self._dated[key]))

        if "erased" in record:
            claim = (str(record["erased"][0]), int(record["erased"][1]))
            if self._guests.pop((host_id, *claim), None) is not None:
                note(What.ERASED, before_s)
            return
        claim = (str(record["instance_id"]), int(record["epoch"]))
        was = self._guests.get((host_id, *claim), {"prepared": False, "starts": 0, "power": 0})
        self._guests[host_id, *claim] = record
        if record["prepared"] and not was["prepared"]:
            note(What.PREPARED, now_s)
        is_on, was_on = record["power"] in ALIVE, was["power"] in ALIVE
        if record["starts"] > was["starts"] or (is_on and not was_on):
            note(What.STARTED, now_s)
        elif was_on and not is_on:
            note(What.STOPPED, before_s)


def fake_guests(cloud: ChaosCloud) -> list[dict[str, Any]]:
    """Guests on the fake hosts now."""
    return [
        {
            "host_id": path.parent.name, "instance_id": guest.instance_id, "epoch": guest.epoch,
            "power": guest.power, "prepared": guest.prepared, "vcpus": guest.vcpus,
            "memory_mib": guest.memory_mib, "disk_gib": guest.disk_gib,
        }
        for path in sorted((cloud.home / "compute").glob(f"**/{JOURNAL}"))
        for guest in read_guests(path.parent).values()
    ]  # fmt: skip


def real_guests(cloud: ChaosCloud, host_id: str) -> list[dict[str, Any]]:
    """Domains of the cloud's own libvirtd now."""
    found = []
    for instance_id in _virsh(cloud, "list", "--all", "--uuid").split():
        described = _virsh(cloud, "dumpxml", instance_id)
        epoch = re.search(r"<[^>]*epoch[^>]*>(\d+)<|epoch=['\"](\d+)['\"]", described)
        assert epoch, described
        running = _virsh(cloud, "domstate", instance_id).strip() == "running"
        found.append(
            {"host_id": host_id, "instance_id": instance_id, "prepared": True,
             "power": int(Power.RUNNING if running else Power.OFF),
             "epoch": int(epoch[1] or epoch[2])}
        )  # fmt: skip
    return found


def _virsh(cloud: ChaosCloud, *words: str) -> str:
    socket = cloud.home / "libvirt" / "run" / "libvirt-sock"
    uri = f"qemu+unix:///system?socket={socket}"
    return subprocess.run(
        ["virsh", "--quiet", "-c", uri, *words],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
