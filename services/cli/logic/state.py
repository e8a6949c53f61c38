"""What the supervisor writes down of itself: enough for others to find, count and end what it
started.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from services.cli.logic import options as wishes
from services.cli.logic.options import Options


class Phase(StrEnum):
    """Where the whole cloud is."""

    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    DOWN = "down"


class SeatState(StrEnum):
    """Where one process is."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(slots=True)
class Seat:
    """One process as it is now. `started` is the kernel's start time in ticks; with the pid it
    names a process.
    """

    name: str
    replica: int
    probe: str
    endpoint: str
    admin_endpoint: str
    stop_signal: int
    auxiliary: bool
    pid: int = 0
    started: int = 0
    state: SeatState = SeatState.WAITING
    restarts: int = 0

    @property
    def label(self) -> str:
        """Its own name among all."""
        return self.name if self.replica == 0 else f"{self.name}-{self.replica}"


@dataclass(slots=True)
class CloudState:
    """The supervisor, what it was asked for, and its processes in the order of their start."""

    pid: int
    started: int
    phase: Phase
    options: Options
    seats: list[Seat] = field(default_factory=list)

    @property
    def listens(self) -> tuple[str, ...]:
        """Where the replicas of api listen, the first first."""
        found = tuple(seat.endpoint for seat in self.seats if seat.name == "api")
        return found or (self.options.listen,)


def written(state: CloudState) -> dict[str, Any]:
    """The state as JSON can hold it."""
    return {
        "pid": state.pid,
        "started": state.started,
        "phase": state.phase.value,
        "options": wishes.written(state.options),
        "seats": [asdict(seat) for seat in state.seats],
    }


def read(stored: dict[str, Any]) -> CloudState:
    """The state as `written` left it. Raises KeyError, TypeError or ValueError on anything else."""
    return CloudState(
        pid=int(stored["pid"]),
        started=int(stored["started"]),
        phase=Phase(stored["phase"]),
        options=wishes.read(stored["options"]),
        seats=[Seat(**{**seat, "state": SeatState(seat["state"])}) for seat in stored["seats"]],
    )
