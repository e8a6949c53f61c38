"""An instance: its states, and the one table of legal transitions.

    REQUESTED --place--> BUILDING --started--> ACTIVE <--> STOPPED
        |                   |                     |           |
        +----- failed ------+--> ERROR <-- lost --+-----------+
        +-------------------+------ delete -------+-----------+--> DELETED

Owns legality. Does not own why a transition is attempted: flows do.
Numbers of the enums are those of the public contract.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum


class State(IntEnum):
    """Where an instance stands in its life."""

    REQUESTED = 1
    BUILDING = 2
    ACTIVE = 3
    STOPPED = 4
    ERROR = 5
    DELETED = 6


class Task(IntEnum):
    """What is being done to it."""

    NONE = 1
    SCHEDULING = 2
    SPAWNING = 3
    DELETING = 4


class Power(IntEnum):
    """What its host last saw of the guest's power switch."""

    PENDING = 1
    RUNNING = 2
    OFF = 3
    CRASHED = 4


class Action(IntEnum):
    """What a user can ask of an instance."""

    DELETE = 1


class Event(Enum):
    """What can happen to an instance, whoever caused it."""

    CLAIMED = "claimed"
    STARTED = "started"
    BUILD_LOST = "build lost"
    FAILED = "failed"
    DELETE_ASKED = "delete asked"
    GUEST_STOPPED = "guest stopped"
    GUEST_RAN = "guest ran"
    GUEST_GONE = "guest gone"
    GUEST_LOST = "guest lost"


@dataclass(frozen=True, slots=True)
class Standing:
    """State and task together: the place of an instance in the table."""

    state: State
    task: Task


@dataclass(frozen=True, slots=True)
class Illegal:
    """Why an event may not happen to an instance in its present standing."""

    reason: str


LIVING = frozenset(State) - {State.DELETED}

_R_SCHEDULING = Standing(State.REQUESTED, Task.SCHEDULING)
_B_SPAWNING = Standing(State.BUILDING, Task.SPAWNING)
_ACTIVE = Standing(State.ACTIVE, Task.NONE)
_STOPPED = Standing(State.STOPPED, Task.NONE)
_ERROR = Standing(State.ERROR, Task.NONE)
_DELETED = Standing(State.DELETED, Task.NONE)

_SETTLED = (_R_SCHEDULING, _B_SPAWNING, _ACTIVE, _STOPPED, _ERROR)
_DELETING = tuple(Standing(s.state, Task.DELETING) for s in _SETTLED)

TABLE: dict[tuple[Standing, Event], Standing] = {
    (_R_SCHEDULING, Event.CLAIMED): _B_SPAWNING,
    (_R_SCHEDULING, Event.FAILED): _ERROR,
    (_B_SPAWNING, Event.STARTED): _ACTIVE,
    (_B_SPAWNING, Event.BUILD_LOST): _R_SCHEDULING,
    (_B_SPAWNING, Event.FAILED): _ERROR,
    (_ACTIVE, Event.GUEST_STOPPED): _STOPPED,
    (_STOPPED, Event.GUEST_RAN): _ACTIVE,
    (_ACTIVE, Event.GUEST_LOST): _ERROR,
    (_STOPPED, Event.GUEST_LOST): _ERROR,
    **{
        (standing, Event.DELETE_ASKED): Standing(standing.state, Task.DELETING)
        for standing in _SETTLED
    },
    **{(standing, Event.GUEST_GONE): _DELETED for standing in _DELETING},
}


def after(standing: Standing, event: Event) -> Standing | Illegal:
    """The standing after `event`, or why it is not legal now."""
    following = TABLE.get((standing, event))
    if following is not None:
        return following
    if standing.state is State.DELETED:
        return Illegal("the instance is deleted")
    if standing.task is Task.DELETING:
        return Illegal("the instance is being deleted")
    return Illegal(f"{event.value} does not happen in {standing.state.name}")


_ASKED: dict[Action, Event] = {Action.DELETE: Event.DELETE_ASKED}


def allowed_actions(standing: Standing) -> list[Action]:
    """The actions that the table accepts in this standing, in their numbers' order."""
    return [a for a in Action if not isinstance(after(standing, _ASKED[a]), Illegal)]
