"""What the flows of compute need: the driver contract, and the roads to the control plane. Those
of consoles stand in `console_ports`.

The driver contract is step-wise and level-triggered: `list_guests` and `find_guests` say what is,
every other method does one step towards what is wanted, may be repeated after a crash at any point,
and never decides.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.compute.flows.console_ports import ConsoleLog, ConsolePiece, Keyboard
from services.compute.logic.guest import Guest, Identity, Notes
from services.compute.logic.outbox import Numbered
from services.compute.logic.wanted import View, Wanted
from services.domain.kinds import Architecture, Hypervisor, ImageKind
from services.domain.observation import ObservationOutcome
from services.domain.resources import Overcommit, Resources


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do on this machine, found by trying."""

    driver: str
    hypervisor: Hypervisor
    hypervisor_version: str
    choice_reason: str
    image_kinds: tuple[ImageKind, ...]
    architectures: tuple[Architecture, ...]
    console_output: bool
    console_input: bool
    config_drive: bool
    graceful_stop: bool
    pause: bool
    suspend: bool


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in the host's cache, verified; the driver may read it and must not change it."""

    path: Path
    kind: ImageKind
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """All that a driver needs to make a guest. `disk_gib` is the size of its own disk."""

    name: str
    project_id: str
    resources: Resources
    ssh_public_keys: tuple[str, ...]
    user_data: bytes


@dataclass(frozen=True, slots=True)
class GuestChanged:
    """Something happened to a guest behind the agent's back: look again."""

    instance_id: str


class StepFailed(Exception):
    """A step cannot succeed by being repeated. `reason` is a stable UPPER_SNAKE cause."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Driver(Protocol):
    """One hypervisor on one host.

    Each method ends within minutes, whatever the hypervisor does. It may raise StepFailed; anything
    else is retried by the flow.
    """

    async def capabilities(self) -> Capabilities:
        """What this driver can do here; cheap after the first call."""
        ...

    async def capacity(self) -> Resources:
        """What the host has."""
        ...

    async def list_guests(self) -> Sequence[Guest]:
        """The guests that carry this cloud's id, also half-made ones; no others."""
        ...

    async def find_guests(self, instance_id: str) -> Sequence[Guest]:
        """Those of `list_guests` that are of one instance; what each step begins with, so cheap."""
        ...

    async def prepare_guest(self, identity: Identity, spec: GuestSpec, image: ImageFile) -> None:
        """Makes disk, config drive and definition, all off.

        Starts from nothing or from its own interrupted work.
        """
        ...

    async def start_guest(self, identity: Identity) -> None:
        """Switches a prepared guest on. Does nothing if it runs."""
        ...

    async def pause_guest(self, identity: Identity) -> None:
        """Freezes a guest that runs. Does nothing if it is frozen."""
        ...

    async def unpause_guest(self, identity: Identity) -> None:
        """Lets a frozen guest go on. Does nothing if it runs."""
        ...

    async def suspend_guest(self, identity: Identity) -> None:
        """Writes a guest's memory beside its disk and switches it off. Does nothing if it is."""
        ...

    async def resume_guest(self, identity: Identity) -> None:
        """Lets a suspended guest go on from its memory. Does nothing if it runs."""
        ...

    async def mark_applied(self, identity: Identity, generation: int) -> None:
        """Writes into the guest, durably, that `generation` is fully applied."""
        ...

    async def write_notes(self, identity: Identity, notes: Notes) -> None:
        """Writes the notes beside a prepared guest, durably, whole, in the place of older ones."""
        ...

    async def ask_guest_to_stop(self, identity: Identity) -> None:
        """Presses the power button of a guest, which may not listen. Does nothing if it is off."""
        ...

    async def stop_guest(self, identity: Identity) -> None:
        """Switches a guest off at once, and drops what is kept of its memory. Does nothing if it is
        off or absent.
        """
        ...

    async def erase_guest(self, identity: Identity) -> None:
        """Removes a stopped guest's definition, disk, config drive and log.

        Does nothing if all is gone.
        """
        ...

    async def read_console_log(self, identity: Identity, max_bytes: int) -> ConsoleLog:
        """The newest bytes of the serial console, empty if nothing was written."""
        ...

    async def read_console_from(
        self, identity: Identity, offset: int | None, max_bytes: int
    ) -> ConsolePiece:
        """The bytes from `offset` on, none where there are no more yet or `offset` is None. Raises
        StepFailed (CONSOLE_OFFSET_GONE) where they are not kept, or (CONSOLE_NOT_READY) where there
        is no such guest.
        """
        ...

    def open_keyboard(self, identity: Identity) -> AbstractAsyncContextManager[Keyboard]:
        """Holds the way into a guest's console; it outlives the guest's boots."""
        ...

    def watch_guests(self) -> AsyncIterator[GuestChanged]:
        """Yields whenever the hypervisor tells that a guest started or stopped.

        May miss some; a slow look catches them.
        """
        ...

    async def close(self) -> None:
        """Lets go of the hypervisor. Guests run on."""
        ...


@dataclass(frozen=True, slots=True)
class HostProfile:
    """What an agent says of its host that does not come from the driver."""

    host_id: str
    machine_id: str
    boot_id: str
    agent_version: str
    reserved: Resources
    overcommit: Overcommit


@dataclass(frozen=True, slots=True)
class Hello:
    """An agent introduces its host."""

    profile: HostProfile
    capacity: Resources
    capabilities: Capabilities
    guests: tuple[Guest, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life, and whether the host would not hear a command."""

    bus_silent: bool = False


@dataclass(frozen=True, slots=True)
class ViewWanted:
    """The agent knows that it is behind."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of observations: pairs of number and outcome."""

    results: tuple[tuple[int, ObservationOutcome], ...]


@dataclass(frozen=True, slots=True)
class BeatAnswered:
    """The newest revision at which something was wanted of this host."""

    wanted_revision: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another agent of this host is live."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The guests of this cloud on the host, as a host tells of them; fields as in the contract."""

    guests: tuple[Guest, ...]
    number: int
    as_of_revision: int = 0
    cut_short: bool = False


Saying = Hello | Sequence[Numbered] | Beat | ViewWanted | Inventory
Telling = View | Acknowledged | BeatAnswered | Superseded


class StateStream(Protocol):
    """One open stream of states. Both methods raise a CloudError when it is lost."""

    async def send(self, saying: Saying) -> None:
        """Says one thing; waits while the road is full."""
        ...

    async def receive(self) -> Telling:
        """The next thing that the host is told."""
        ...


class Ingress(Protocol):
    """The control plane's door for states."""

    def open_states(self) -> AbstractAsyncContextManager[StateStream]:
        """Opens a stream; leaving the context ends it."""
        ...


class Blobs(Protocol):
    """The control plane's door for bytes, for one host."""

    def read_blob(self, digest: str, offset: int, *, incarnation: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` on of a blob that a claim of the host names. Raises NotFound
        (BLOB_NOT_FOUND), Conflict (SUPERSEDED) unless the incarnation is live, Unavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class CommandBatch:
    """Wishes for one host, for one incarnation of its agent; with `inventory_as_of` also the wish
    to be told its guests, listed after that commit.
    """

    host_id: str
    incarnation: int
    wanted: tuple[Wanted, ...]
    inventory_as_of: int = 0
