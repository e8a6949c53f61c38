"""The fake driver: keeps the state of guests on disk and runs none. For tests, drills and fleets
of thousands.

Each change of a guest is a line of the host's journal, so guests outlive this process as real
ones do. It can be slow (a delay per step) or failing: guests called `fail-…` never build, `deaf-…`
do not hear their power button, `flaky-…` fail their first step of each kind in a way that is worth
repeating, and every n-th build of the process fails if so set.

A guest's console says back what is typed, and after a line `count N` the numbers from 1 to N, each
on a line of its own.
"""

import asyncio
import contextlib
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

from services.compute.edges.drivers.fake_guest import FakeGuest
from services.compute.edges.drivers.fake_journal import Journal
from services.compute.flows.console_ports import ConsoleLog, ConsolePiece, Keyboard
from services.compute.flows.ports import (
    Capabilities,
    GuestChanged,
    GuestSpec,
    ImageFile,
    StepFailed,
)
from services.compute.logic.guest import Claim, Guest, Identity, Notes
from services.domain.instance import ALIVE, Power
from services.domain.kinds import Architecture, Hypervisor, ImageKind
from services.domain.resources import Resources

EVENTS_MAX = 1024
OTHER_FILES = 1024


@dataclass(slots=True)
class Faults:
    """How slow each step is, and of how many builds one fails (0: none); hosts may share it."""

    delay_s: float = 0.0
    fail_every: int = 0
    built: int = 0

    def count_build(self) -> bool:
        """Counts a build; gives whether it shall fail."""
        self.built += 1
        return self.fail_every > 0 and self.built % self.fail_every == 0


def open_fleet(
    folder: Path, host_ids: Sequence[str], *, cloud_id: str, capacity: Resources, faults: Faults
) -> "dict[str, FakeDriver]":
    """A driver for each of many fake hosts, each with a folder and an open journal of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, len(host_ids) + OTHER_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return {
        host_id: FakeDriver(folder / host_id, cloud_id=cloud_id, capacity=capacity, faults=faults)
        for host_id in host_ids
    }


class FakeDriver:
    """One fake host, its guests in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        cloud_id: str,
        capacity: Resources,
        faults: Faults,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._cloud_id = cloud_id
        self._capacity = capacity
        self._faults = faults
        self._flaky: Counter[tuple[Claim, str]] = Counter()
        self._changes: asyncio.Queue[GuestChanged] = asyncio.Queue(EVENTS_MAX)
        self._journal = Journal(folder)
        self._seen: dict[str, dict[Claim, Guest]] = {}
        for guest in self._journal.guests.values():
            self._see(guest)

    async def capabilities(self) -> Capabilities:
        """Every kind of image, for every processor."""
        return Capabilities(
            driver="fake",
            hypervisor=Hypervisor.FAKE,
            hypervisor_version="",
            choice_reason="asked for by name",
            image_kinds=tuple(ImageKind),
            architectures=tuple(Architecture),
            console_output=True,
            console_input=True,
            config_drive=False,
            graceful_stop=True,
            pause=True,
            suspend=True,
        )

    async def capacity(self) -> Resources:
        """What the fake host was given."""
        return self._capacity

    async def list_guests(self) -> Sequence[Guest]:
        """The guests in the folder that carry this cloud's id."""
        return [guest for seen in self._seen.values() for guest in seen.values()]

    async def find_guests(self, instance_id: str) -> Sequence[Guest]:
        """Of what `list_guests` gives."""
        return list(self._seen.get(instance_id, {}).values())

    async def prepare_guest(self, identity: Identity, spec: GuestSpec, image: ImageFile) -> None:
        """Writes a half-made guest, waits, writes it whole; needs the image to be readable."""
        if not image.path.is_file():
            raise RuntimeError(f"the image {image.path} is gone")
        found = self._guest(identity.claim)
        if found is not None and found.prepared:
            return
        guest = FakeGuest(
            cloud_id=identity.cloud_id,
            instance_id=identity.instance_id,
            epoch=identity.epoch,
            vcpus=spec.resources.vcpus,
            memory_mib=spec.resources.memory_mib,
            disk_gib=spec.resources.disk_gib,
            name=spec.name,
            project_id=spec.project_id,
            image=image.path.name,
            prepared=False,
            power=Power.OFF.value,
            applied_generation=0,
            starts=0,
            console="",
        )
        fails = spec.name.startswith("fail-") or self._faults.count_build()
        if fails or self._faults.delay_s > 0:
            self._put(guest)
        await self._step(identity.claim, "prepare", spec.name)
        if fails:
            raise StepFailed("FAKE_FAILURE", "the fake driver was told to fail this build")
        self._put(replace(guest, prepared=True))

    async def start_guest(self, identity: Identity) -> None:
        """Switches on at once: the console says the guest's name and id."""
        guest = self._prepared(identity.claim)
        await self._step(identity.claim, "start", guest.name)
        # Somebody may have typed into it meanwhile, or it switched itself off.
        guest = self._prepared(identity.claim)
        if not guest.incarnation:
            self._put(guest.started())

    async def pause_guest(self, identity: Identity) -> None:
        """Freezes: it says nothing and takes no keys."""
        await self._turn(identity.claim, "pause", (Power.RUNNING,), Power.PAUSED)

    async def unpause_guest(self, identity: Identity) -> None:
        """Goes on."""
        await self._turn(identity.claim, "unpause", (Power.PAUSED,), Power.RUNNING)

    async def suspend_guest(self, identity: Identity) -> None:
        """Off, and remembered to be in the midst of a run."""
        await self._turn(identity.claim, "suspend", (*ALIVE,), Power.SUSPENDED)

    async def resume_guest(self, identity: Identity) -> None:
        """Goes on in the same run."""
        if not self._prepared(identity.claim).incarnation:
            raise StepFailed("MEMORY_NOT_KEPT", "nothing is kept of the guest's memory")
        await self._turn(identity.claim, "resume", (Power.SUSPENDED,), Power.RUNNING)

    async def mark_applied(self, identity: Identity, generation: int) -> None:
        """Writes the generation into the journal."""
        guest = self._prepared(identity.claim)
        self._put(replace(guest, applied_generation=max(generation, guest.applied_generation)))

    async def write_notes(self, identity: Identity, notes: Notes) -> None:
        """Writes them into the journal."""
        guest = self._prepared(identity.claim)
        await self._step(identity.claim, "note", guest.name)
        guest = self._prepared(identity.claim)
        asked = astuple(notes.asked) if notes.asked else None
        noted = replace(guest, boot=notes.boot, was=notes.was, asked=asked, ran_in=notes.ran_in)
        self._put(noted)

    async def ask_guest_to_stop(self, identity: Identity) -> None:
        """The guest switches itself off at once, unless it is deaf."""
        guest = self._guest(identity.claim)
        if guest is None or guest.power != Power.RUNNING:
            return
        await self._step(identity.claim, "ask", guest.name)
        if not guest.name.startswith("deaf-"):
            self.power_off_from_inside(identity.claim)

    async def stop_guest(self, identity: Identity) -> None:
        """Switches off."""
        guest = self._guest(identity.claim)
        if guest is None or not guest.incarnation:
            return
        await self._step(identity.claim, "stop", guest.name)
        self._put(replace(self._prepared(identity.claim), power=Power.OFF.value))

    async def erase_guest(self, identity: Identity) -> None:
        """Keeps nothing of it."""
        guest = self._guest(identity.claim)
        if guest is None:
            return
        await self._step(identity.claim, "erase", guest.name)
        self._journal.remove(identity.claim)
        seen = self._seen.get(identity.instance_id, {})
        seen.pop(identity.claim, None)
        if not seen:
            self._seen.pop(identity.instance_id, None)

    async def read_console_log(self, identity: Identity, max_bytes: int) -> ConsoleLog:
        """The end of what the guest has said."""
        guest = self._guest(identity.claim)
        if guest is None:
            return ConsoleLog(b"", 0)
        start = max(0, len(guest.console) - max_bytes)
        return ConsoleLog(guest.console[start:].encode("latin-1"), guest.console_offset + start)

    async def read_console_from(
        self, identity: Identity, offset: int | None, max_bytes: int
    ) -> ConsolePiece:
        """From what is kept of it."""
        guest = self._guest(identity.claim)
        if guest is None:
            raise StepFailed("CONSOLE_NOT_READY", "there is no such guest")
        end = guest.console_offset + len(guest.console)
        start = end if offset is None else offset
        if not guest.console_offset <= start <= end:
            raise StepFailed("CONSOLE_OFFSET_GONE", f"no byte {start} of the console is kept")
        place = start - guest.console_offset
        content = guest.console[place : place + max_bytes].encode("latin-1")
        return ConsolePiece(content, end)

    @asynccontextmanager
    async def open_keyboard(self, identity: Identity) -> AsyncIterator[Keyboard]:
        """Types into the guest."""
        yield FakeKeyboard(partial(self.type_into, identity.claim))

    async def watch_guests(self) -> AsyncIterator[GuestChanged]:
        """Tells of guests that switched themselves off."""
        while True:
            yield await self._changes.get()

    async def close(self) -> None:
        """Lets go of the journal."""
        self._journal.close()

    def power_off_from_inside(self, claim: Claim) -> None:
        """Does what an owner's `poweroff` in the guest does; for tests and drills."""
        self._put(replace(self._prepared(claim), power=Power.OFF.value))
        with contextlib.suppress(asyncio.QueueFull):
            self._changes.put_nowait(GuestChanged(claim.instance_id))

    def type_into(self, claim: Claim, content: bytes) -> None:
        """Does what the guest does with what is typed."""
        guest = self._guest(claim)
        if guest is None or guest.power != Power.RUNNING:
            raise StepFailed("CONSOLE_NOT_READY", "the guest does not run")
        self._put(guest.after(content))

    async def _turn(self, claim: Claim, kind: str, before: Collection[Power], to: Power) -> None:
        await self._step(claim, kind, self._prepared(claim).name)
        guest = self._prepared(claim)
        if guest.power in before:
            self._put(guest.turned(to))

    async def _step(self, claim: Claim, kind: str, name: str) -> None:
        if self._faults.delay_s > 0:
            await asyncio.sleep(self._faults.delay_s)
        if not name.startswith("flaky-"):
            return
        self._flaky[claim, kind] += 1
        if self._flaky[claim, kind] == 1:
            raise RuntimeError(f"the fake driver was told to fail its first try to {kind}")

    def _prepared(self, claim: Claim) -> FakeGuest:
        guest = self._guest(claim)
        if guest is None or not guest.prepared:
            raise RuntimeError(f"no prepared guest of {claim}")
        return guest

    def _guest(self, claim: Claim) -> FakeGuest | None:
        guest = self._journal.guests.get(claim)
        return guest if guest is not None and guest.cloud_id == self._cloud_id else None

    def _put(self, guest: FakeGuest) -> None:
        self._journal.put(guest)
        self._see(guest)

    def _see(self, guest: FakeGuest) -> None:
        if guest.cloud_id == self._cloud_id:
            self._seen.setdefault(guest.instance_id, {})[guest.claim] = guest.seen()


class FakeKeyboard:
    """The way into one fake guest."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    async def write(self, content: bytes) -> None:
        """Types."""
        self._write(content)
