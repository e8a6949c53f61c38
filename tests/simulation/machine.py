"""The machine of a simulated host: guests and cached images that outlive its agent, and the log of
what happened to guests. The driver is the fake one on a journal in memory, with steps that take
time and fail now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random

from services.compute.edges.drivers.fake import EVENTS_MAX, FakeDriver, Faults
from services.compute.edges.drivers.fake_guest import FakeGuest
from services.compute.flows.ports import GuestChanged
from services.compute.logic.guest import Claim
from services.compute.logic.wanted import Image
from services.domain.instance import ALIVE, Power
from services.domain.resources import Resources
from tests.checkers.history import HostEvent, What
from tests.simulation.loop import BEING, SimulatedLoop

IMAGE_BYTES = bytes(range(256)) * 8
IMAGE_DIGEST = sha256(IMAGE_BYTES).hexdigest()
# The fake driver only looks whether an image is there.
SOMETHING = Path(__file__)


def is_gone() -> bool:
    """Whether whoever acts belongs to a process that is dead: it leaves no mark any more."""
    being = BEING.get()
    return being is not None and not being.alive


@dataclass(slots=True)
class Machine:
    """What stays when the agent dies. `boots` counts power losses and `boot_id` names this boot."""

    host_id: str
    loop: SimulatedLoop
    rng: Random
    capacity: Resources
    guests: dict[Claim, FakeGuest] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    boots: int = 1
    trouble: float = 0.0
    events: list[HostEvent] = field(default_factory=list)
    driver: MachineDriver | None = None

    @property
    def boot_id(self) -> str:
        """Names this boot of the machine."""
        return f"{self.host_id}-boot-{self.boots}"

    def put(self, guest: FakeGuest) -> None:
        """Keeps a guest as it is now."""
        if is_gone():
            return
        before = self.guests.get(guest.claim)
        was_on = before is not None and before.power in ALIVE
        is_on = guest.power in ALIVE
        if is_on and not was_on:
            # Its own line has no epoch.
            guest = guest.said(f"STARTED host={self.host_id} epoch={guest.epoch}\n")
        self.guests[guest.claim] = guest
        if guest.prepared and (before is None or not before.prepared):
            self._tell(guest.claim, What.PREPARED)
        if was_on != is_on:
            self._tell(guest.claim, What.STARTED if is_on else What.STOPPED)

    def remove(self, claim: Claim) -> None:
        """Keeps nothing of a guest."""
        if is_gone():
            return
        guest = self.guests.pop(claim, None)
        if guest is not None:
            if guest.power in ALIVE:
                self._tell(claim, What.STOPPED)
            self._tell(claim, What.ERASED)

    def close(self) -> None:
        """A journal in memory has nothing to let go of."""

    def lose_power(self) -> None:
        """Every guest ends where it is."""
        self.boots += 1
        for guest in list(self.guests.values()):
            if guest.power in ALIVE:
                self.put(replace(guest, power=Power.OFF.value))

    def wipe(self) -> None:
        """Nothing is left on its disks."""
        self.guests.clear()
        self.cached.clear()

    def switch_off(self, guest: FakeGuest) -> None:
        """Ends a guest behind the agent's back, which is told if it is there."""
        self.put(replace(guest, power=Power.OFF.value))
        if self.driver is not None:
            self.driver.noticed(guest)

    def _tell(self, claim: Claim, what: What) -> None:
        self.events.append(HostEvent(self.host_id, *claim, what, self.loop.time()))


class MachineDriver(FakeDriver):
    """The fake driver over a machine."""

    def __init__(
        self, machine: Machine, cloud_id: str
    ) -> None:  # the folder of the real one is not needed
        self._machine = machine
        self._cloud_id = cloud_id
        self._capacity = machine.capacity
        # Above zero, so that a half-made guest stands there while it is made.
        self._faults = Faults(delay_s=1.0)
        self._flaky = Counter()
        self._changes: asyncio.Queue[GuestChanged] = asyncio.Queue(EVENTS_MAX)
        self._journal = machine  # type: ignore[assignment]  # the part of a Journal that is used
        self._seen = {}
        machine.driver = self
        for guest in machine.guests.values():
            self._see(guest)

    def noticed(self, guest: FakeGuest) -> None:
        """Something happened to a guest."""
        self._see(self._machine.guests[guest.claim])
        with contextlib.suppress(asyncio.QueueFull):
            self._changes.put_nowait(GuestChanged(guest.instance_id))

    async def _step(self, claim: Claim, kind: str, name: str) -> None:
        machine = self._machine
        slow = machine.rng.random() < machine.trouble
        await asyncio.sleep(
            machine.rng.uniform(0.5, 12.0) if slow else machine.rng.uniform(0, 0.05)
        )
        if machine.rng.random() < machine.trouble:
            raise RuntimeError(f"the hypervisor failed to {kind}")
        if name.startswith("flaky-"):
            self._flaky[claim, kind] += 1
            if self._flaky[claim, kind] == 1:
                raise RuntimeError(f"the first try to {kind} fails")


class MemoryShelf:
    """The images of a machine: implements `compute.flows.image_ports.ImageShelf`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def known(self, image: Image) -> Path | None:
        return SOMETHING if image.digest in self._machine.cached else None

    async def find(self, image: Image) -> Path | None:
        await asyncio.sleep(0)
        return self.known(image)

    async def begin(self, image: Image) -> MemoryDraft:
        await asyncio.sleep(0)
        return MemoryDraft(self._machine, image)


class MemoryDraft:
    """An image on its way to a machine."""

    def __init__(self, machine: Machine, image: Image) -> None:
        self.size_bytes = 0
        self._machine = machine
        self._image = image
        self._content = b""

    async def append(self, chunk: bytes) -> None:
        self._content += chunk
        self.size_bytes = len(self._content)

    async def finish(self) -> Path | None:
        await asyncio.sleep(self._machine.rng.uniform(0, 0.01))
        if is_gone() or sha256(self._content).hexdigest() != self._image.digest:
            return None
        self._machine.cached.add(self._image.digest)
        return SOMETHING

    async def close(self) -> None:
        """Nothing is kept of a part."""
