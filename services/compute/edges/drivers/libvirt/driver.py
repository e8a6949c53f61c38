"""The libvirt driver: the driver contract on one libvirtd.

Files first, definition last: a guest whose domain exists is complete. Steps block, so each runs
in a thread.
"""

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from services.compute.edges.drivers.libvirt import domain_switch, domains
from services.compute.edges.drivers.libvirt.capacity import capacity
from services.compute.edges.drivers.libvirt.choice import Choice, choose
from services.compute.edges.drivers.libvirt.connection import CALL_S, Connection, ended
from services.compute.edges.drivers.libvirt.console_log import read_from, read_log
from services.compute.edges.drivers.libvirt.guest_folder import (
    GuestFolder,
    begun_guests,
    guest_folders,
    remove_empty_folders,
)
from services.compute.edges.drivers.libvirt.guest_maker import GuestMaker
from services.compute.edges.drivers.libvirt.guest_metadata import checked, domain_name_start
from services.compute.edges.drivers.libvirt.keyboard import TerminalKeyboard
from services.compute.edges.drivers.libvirt.kvm_probe import kvm_answer
from services.compute.flows.console_ports import ConsoleLog, ConsolePiece, Keyboard
from services.compute.flows.ports import (
    Capabilities,
    Driver,
    GuestChanged,
    GuestSpec,
    ImageFile,
    StepFailed,
)
from services.compute.logic.guest import NO_NOTES, Guest, Identity, Notes
from services.domain.errors import NotFound
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources

T = TypeVar("T")

FILES_S = 180.0
# For a memory to go to disk or come from it.
MEMORY_S = 600.0
LOOK_FOR_LIBVIRTD_S = 5.0

_ARCHITECTURES = {"x86_64": Architecture.X86_64, "aarch64": Architecture.AARCH64}


async def make_driver(name: str, *, cloud_id: str, state_dir: Path, uri: str) -> Driver:
    """The driver called `name` (qemu, kvm, libvirt), its files under `state_dir`.

    Waits for the KVM probe, not for libvirtd. Raises what `choose` raises.
    """
    folder = await asyncio.to_thread(_tidy, state_dir)
    choice = await choose(name, partial(kvm_answer, folder))
    return LibvirtDriver(Connection(uri), choice, cloud_id=cloud_id, state_dir=folder)


class LibvirtDriver:
    """See `flows.ports.Driver`. Besides StepFailed, its steps raise CloudError and TimeoutError."""

    def __init__(
        self, connection: Connection, choice: Choice, *, cloud_id: str, state_dir: Path
    ) -> None:
        self._connection = connection
        self._choice = choice
        self._cloud_id = cloud_id
        self._state_dir = state_dir
        self._architecture = _ARCHITECTURES[platform.machine()]
        self._maker = GuestMaker(state_dir, choice.hypervisor, self._architecture)
        self._capabilities: Capabilities | None = None

    async def capabilities(self) -> Capabilities:
        """What can be done here; libvirtd is asked once."""
        if self._capabilities is None:
            self._capabilities = Capabilities(
                driver=self._choice.driver,
                hypervisor=self._choice.hypervisor,
                hypervisor_version=await self._connection.call(domains.hypervisor_version),
                choice_reason=self._choice.reason,
                image_kinds=(ImageKind.QCOW2, ImageKind.RAW, ImageKind.KERNEL),
                architectures=(self._architecture,),
                console_output=True,
                console_input=True,
                config_drive=True,
                graceful_stop=True,
                pause=True,
                suspend=True,
            )
        return self._capabilities

    async def capacity(self) -> Resources:
        """What the machine has."""
        return capacity(self._state_dir)

    async def list_guests(self) -> Sequence[Guest]:
        """The cloud's domains, and the folders of guests that were not finished."""
        # Folders first: a guest that is finished in between is then seen twice, not missed.
        folders = guest_folders(self._state_dir)
        begun = await self._in_thread(partial(begun_guests, folders, self._cloud_id))
        defined = await self._connection.call(
            partial(domains.domains_list, cloud_id=self._cloud_id)
        )
        return _joined(begun, defined)

    async def find_guests(self, instance_id: str) -> Sequence[Guest]:
        """Its folder and its domain, by their names."""
        checked(Identity(self._cloud_id, instance_id, 0))
        folders = [GuestFolder(self._state_dir, instance_id)]
        begun = await self._in_thread(partial(begun_guests, folders, self._cloud_id))
        defined = await self._connection.call(
            partial(domains.domain_of, cloud_id=self._cloud_id, instance_id=instance_id)
        )
        return _joined(begun, defined)

    async def prepare_guest(self, identity: Identity, spec: GuestSpec, image: ImageFile) -> None:
        """Disk, config drive, definition; raises Conflict if the place is another claim's."""
        self._own(identity)
        if not await self._connection.call(partial(domains.domain_exists, identity=identity)):
            description = await self._in_thread(partial(self._maker.make, identity, spec, image))
            await self._connection.call(
                partial(domains.domain_define, identity=identity, description=description)
            )

    async def start_guest(self, identity: Identity) -> None:
        """Raises NotFound if it is not prepared."""
        await self._switch(domain_switch.domain_start, identity)

    async def pause_guest(self, identity: Identity) -> None:
        """Raises NotFound if it is not prepared."""
        await self._switch(domain_switch.domain_pause, identity)

    async def unpause_guest(self, identity: Identity) -> None:
        """Raises NotFound if it is not prepared."""
        await self._switch(domain_switch.domain_unpause, identity)

    async def suspend_guest(self, identity: Identity) -> None:
        """Its memory goes to a file of libvirt's; raises NotFound if it is not prepared."""
        await self._switch(domain_switch.domain_suspend, identity, MEMORY_S)

    async def resume_guest(self, identity: Identity) -> None:
        """From that file; raises NotFound if it is not prepared."""
        await self._switch(domain_switch.domain_resume, identity, MEMORY_S)

    async def mark_applied(self, identity: Identity, generation: int) -> None:
        """Raises NotFound if it is not prepared."""
        self._own(identity)
        await self._connection.call(
            partial(domains.domain_mark, identity=identity, generation=generation)
        )

    async def write_notes(self, identity: Identity, notes: Notes) -> None:
        """In the guest's folder; raises NotFound if that is not there."""
        folder = GuestFolder(self._state_dir, self._own(identity).instance_id)
        await self._in_thread(partial(_write_notes, folder, identity, notes))

    async def ask_guest_to_stop(self, identity: Identity) -> None:
        """By ACPI."""
        await self._switch(domain_switch.domain_ask_to_stop, identity)

    async def stop_guest(self, identity: Identity) -> None:
        """At once, as if the plug were pulled."""
        await self._switch(domain_switch.domain_stop, identity)

    async def erase_guest(self, identity: Identity) -> None:
        """Definition first, so that nothing starts on half its files; Conflict while it runs."""
        self._own(identity)
        await self._connection.call(partial(domains.domain_undefine, identity=identity))
        folder = GuestFolder(self._state_dir, identity.instance_id)
        await self._in_thread(partial(_erase_folder, folder, identity))

    async def read_console_log(self, identity: Identity, max_bytes: int) -> ConsoleLog:
        """What QEMU wrote to the guest's log file."""
        folder = GuestFolder(self._state_dir, self._own(identity).instance_id)
        return await self._in_thread(partial(_read_log, folder, identity, max_bytes))

    async def read_console_from(
        self, identity: Identity, offset: int | None, max_bytes: int
    ) -> ConsolePiece:
        """From the same file."""
        folder = GuestFolder(self._state_dir, self._own(identity).instance_id)
        return await self._in_thread(partial(_read_from, folder, identity, offset, max_bytes))

    @asynccontextmanager
    async def open_keyboard(self, identity: Identity) -> AsyncIterator[Keyboard]:
        """The terminal that QEMU made, found anew after each boot."""
        console = partial(domains.domain_console, identity=self._own(identity))
        keyboard = TerminalKeyboard(partial(self._connection.call, console))
        try:
            await keyboard.connect()
            yield keyboard
        finally:
            keyboard.close()

    async def watch_guests(self) -> AsyncIterator[GuestChanged]:
        """From libvirt's events; meanwhile opens the connection again if libvirtd was restarted."""
        start = domain_name_start(self._cloud_id)
        names = self._connection.listen()
        try:
            while True:
                try:
                    async with asyncio.timeout(LOOK_FOR_LIBVIRTD_S):
                        name = await names.get()
                except TimeoutError:
                    await self._connection.keep_open()
                    continue
                if name.startswith(start):
                    yield GuestChanged(name.removeprefix(start))
        finally:
            self._connection.unlisten(names)

    async def close(self) -> None:
        """Guests run on."""
        await self._connection.close()

    async def _switch(
        self, turn: Callable[..., None], identity: Identity, within_s: float = CALL_S
    ) -> None:
        await self._connection.call(partial(turn, identity=self._own(identity)), within_s)

    def _own(self, identity: Identity) -> Identity:
        if identity.cloud_id != self._cloud_id:
            raise ValueError(f"not a guest of cloud {self._cloud_id}: {identity}")
        return checked(identity)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await ended(asyncio.get_running_loop().run_in_executor(None, work), FILES_S)


def _joined(begun: Mapping[Identity, Notes], defined: Sequence[Guest]) -> list[Guest]:
    finished = {guest.identity for guest in defined}
    half_made = [Guest(i, False, Power.OFF, 0) for i in begun if i not in finished]
    noted = [replace(g, notes=begun.get(g.identity, NO_NOTES)) for g in defined]
    return [*noted, *half_made]


def _tidy(state_dir: Path) -> Path:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_empty_folders(state_dir)
    return state_dir.absolute()


def _erase_folder(folder: GuestFolder, identity: Identity) -> None:
    there = folder.identity()
    if there is None or there == identity:
        folder.erase()


def _write_notes(folder: GuestFolder, identity: Identity, notes: Notes) -> None:
    if folder.identity() != identity:
        raise NotFound("GUEST_NOT_FOUND", f"there is no guest {identity}")
    folder.write_notes(notes)


def _read_from(
    folder: GuestFolder, identity: Identity, offset: int | None, max_bytes: int
) -> ConsolePiece:
    if folder.identity() != identity:
        raise StepFailed("CONSOLE_NOT_READY", "there is no such guest")
    return read_from(folder.console_log, offset, max_bytes)


def _read_log(folder: GuestFolder, identity: Identity, max_bytes: int) -> ConsoleLog:
    if folder.identity() != identity:
        return ConsoleLog(b"", 0)
    return read_log(folder.console_log, max_bytes)
