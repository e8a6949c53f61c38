"""What the flows of the command need of the world."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from services.cli.logic.options import Options
from services.cli.logic.state import CloudState
from services.cli.logic.units import Probe, Unit

Tell = Callable[[str], None]


class Child(Protocol):
    """A process that was started here."""

    @property
    def pid(self) -> int:
        """Its pid."""
        ...

    @property
    def started(self) -> int:
        """The kernel's start time of it in ticks."""
        ...

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...


class Processes(Protocol):
    """Processes of this machine."""

    def started(self, pid: int) -> int | None:
        """The start time of a living process in ticks, None if there is none."""
        ...

    async def spawn(self, unit: Unit) -> Child:
        """Starts a unit, its words going to its log."""
        ...

    async def end(self, pid: int, started: int, *, number: int, grace_s: float) -> None:
        """Signals exactly this process and waits; kills it after the grace. Does nothing if it is
        gone.
        """
        ...

    def last_words(self, unit: Unit) -> str:
        """The end of a unit's log."""
        ...

    async def cut_back_log(self, unit: Unit) -> None:
        """Keeps a bounded end of the log of a unit that runs."""
        ...

    def port_holder(self, host: str, port: int) -> str | None:
        """Who listens there ("pid 7: nginx -g"), "" if it cannot be known, None if the port is
        free.
        """
        ...


class Store(Protocol):
    """The files of one home."""

    def open(self) -> str:
        """Makes the home, or checks and migrates it; the cloud's id. Raises Invalid, WrongState."""
        ...

    def lock(self) -> bool:
        """Takes the supervisor's lock for the life of this process; false if another has it."""
        ...

    def is_locked(self) -> bool:
        """Whether a supervisor holds the lock now."""
        ...

    def state_read(self) -> CloudState | None:
        """What the newest supervisor wrote down."""
        ...

    def state_write(self, state: CloudState) -> None:
        """Writes it down, at once or not at all."""
        ...

    def sockets_clear(self) -> None:
        """Removes sockets that nobody can be listening on."""
        ...

    def has_guests(self) -> bool:
        """Whether a compute of this home has left files of guests."""
        ...


class Probes(Protocol):
    """Readiness of processes."""

    async def is_ready(self, probe: Probe, *, endpoint: str, admin_endpoint: str) -> bool:
        """Whether it does its work now; answers within seconds."""
        ...


class Plans(Protocol):
    """What a cloud consists of on this machine."""

    def units(self, options: Options, cloud_id: str) -> Sequence[Unit]:
        """Prepares engines and credentials and gives all units. Raises Unavailable, Invalid."""
        ...


class OperationReader(Protocol):
    """The cloud's word on one operation."""

    def operation_wait(self, operation_id: str, timeout_s: float) -> Mapping[str, Any]:
        """The operation's JSON when it has ended, or as it is after the timeout."""
        ...


class Event(Protocol):
    """One message of a watch."""

    @property
    def resume_token(self) -> str:
        """Goes on strictly after it; empty while the snapshot is not complete."""
        ...


class Instances(OperationReader, Protocol):
    """All instances of the cloud, for their end."""

    def instances_all(self) -> Sequence[Mapping[str, Any]]:
        """Every living instance of every project in its JSON form."""
        ...

    def instance_delete(self, instance_id: str) -> Mapping[str, Any] | None:
        """Asks for its end; the operation's JSON, None if it is gone already."""
        ...
