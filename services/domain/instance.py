"""An instance: its states, and the one table of legal transitions.

    REQUESTED --place--> BUILDING --started--> ACTIVE <--stop, start--> STOPPED
        |                   |                  |                        |
        +----- failed ------+--> ERROR <-lost--+------------------------+
        +-------------------+------ delete ----+------------------------+--> DELETED

An ACTIVE one may also reboot. While it starts, stops, reboots or is evacuated the state is the one
before and the task says what is under way.

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
    STARTING = 5
    STOPPING = 6
    REBOOTING = 7
    EVACUATING = 8


class Power(IntEnum):
    """What its host last saw of the guest's power switch."""

    PENDING = 1
    RUNNING = 2
    OFF = 3
    CRASHED = 4


class Action(IntEnum):
    """What a user can ask of an instance."""

    DELETE = 1
    UPDATE = 2
    START = 3
    STOP = 4
    REBOOT = 5


class Event(Enum):
    """What can happen to an instance, whoever caused it."""

    CLAIMED = "claimed"
    STARTED = "started"
    BUILD_LOST = "build lost"
    FAILED = "failed"
    DELETE_ASKED = "delete asked"
    UPDATE_ASKED = "update asked"
    START_ASKED = "start asked"
    STOP_ASKED = "stop asked"
    REBOOT_ASKED = "reboot asked"
    EVACUATE_ASKED = "evacuate asked"
    SWITCHED_ON = "switched on"
    SWITCHED_OFF = "switched off"
    REBOOTED = "rebooted"
    LEFT_RUNNING = "left running"
    LEFT_OFF = "left off"
    CANCELLED = "cancelled"
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
    """Why an event may not happen to an instance in its present standing: a stable cause, and the
    same for people.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """An action that would be refused now, and why."""

    action: Action
    why: Illegal


LIVING = frozenset(State) - {State.DELETED}

_R_SCHEDULING = Standing(State.REQUESTED, Task.SCHEDULING)
_B_SPAWNING = Standing(State.BUILDING, Task.SPAWNING)
_ACTIVE = Standing(State.ACTIVE, Task.NONE)
_STOPPED = Standing(State.STOPPED, Task.NONE)
_ERROR = Standing(State.ERROR, Task.NONE)
_DELETED = Standing(State.DELETED, Task.NONE)

_STARTING = Standing(State.STOPPED, Task.STARTING)
_STOPPING = Standing(State.ACTIVE, Task.STOPPING)
_REBOOTING = Standing(State.ACTIVE, Task.REBOOTING)

_EVACUATING = {
    standing: Standing(standing.state, Task.EVACUATING) for standing in (_ACTIVE, _STOPPED, _ERROR)
}

_BEFORE_DELETE = (
    _R_SCHEDULING, _B_SPAWNING, _ACTIVE, _STOPPED, _ERROR, _STARTING, _STOPPING, _REBOOTING,
    *_EVACUATING.values(),
)  # fmt: skip
_DELETING = tuple(dict.fromkeys(Standing(s.state, Task.DELETING) for s in _BEFORE_DELETE))
STANDINGS = (*_BEFORE_DELETE, *_DELETING, _DELETED)

TABLE: dict[tuple[Standing, Event], Standing] = {
    (_R_SCHEDULING, Event.CLAIMED): _B_SPAWNING,
    (_R_SCHEDULING, Event.FAILED): _ERROR,
    (_B_SPAWNING, Event.STARTED): _ACTIVE,
    (_B_SPAWNING, Event.BUILD_LOST): _R_SCHEDULING,
    (_B_SPAWNING, Event.FAILED): _ERROR,
    (_ACTIVE, Event.GUEST_STOPPED): _STOPPED,
    (_STOPPED, Event.GUEST_RAN): _ACTIVE,
    (_R_SCHEDULING, Event.CANCELLED): _DELETED,
    (_STOPPED, Event.START_ASKED): _STARTING,
    (_STARTING, Event.SWITCHED_ON): _ACTIVE,
    (_STARTING, Event.LEFT_OFF): _STOPPED,
    (_ACTIVE, Event.STOP_ASKED): _STOPPING,
    (_STOPPING, Event.SWITCHED_OFF): _STOPPED,
    (_STOPPING, Event.LEFT_RUNNING): _ACTIVE,
    (_ACTIVE, Event.REBOOT_ASKED): _REBOOTING,
    (_REBOOTING, Event.REBOOTED): _ACTIVE,
    (_REBOOTING, Event.LEFT_RUNNING): _ACTIVE,
    (_REBOOTING, Event.LEFT_OFF): _STOPPED,
    **{
        (standing, Event.GUEST_LOST): _ERROR
        for standing in (_ACTIVE, _STOPPED, _STARTING, _STOPPING, _REBOOTING)
    },
    # Only cloud admins ask for it, and only of a host that is down and fenced.
    **{(before, Event.EVACUATE_ASKED): during for before, during in _EVACUATING.items()},
    **{(during, Event.CLAIMED): during for during in _EVACUATING.values()},
    **{(during, Event.BUILD_LOST): during for during in _EVACUATING.values()},
    **{(during, Event.SWITCHED_ON): _ACTIVE for during in _EVACUATING.values()},
    **{(during, Event.SWITCHED_OFF): _STOPPED for during in _EVACUATING.values()},
    **{(during, Event.FAILED): _ERROR for during in _EVACUATING.values()},
    **{(standing, Event.UPDATE_ASKED): standing for standing in _BEFORE_DELETE},
    **{
        (standing, Event.DELETE_ASKED): Standing(standing.state, Task.DELETING)
        for standing in _BEFORE_DELETE
    },
    # Asked once more it is the same removal.
    **{(standing, Event.DELETE_ASKED): standing for standing in _DELETING},
    **{(standing, Event.GUEST_GONE): _DELETED for standing in _DELETING},
}


def after(standing: Standing, event: Event) -> Standing | Illegal:
    """The standing after `event`, or why it is not legal now."""
    following = TABLE.get((standing, event))
    if following is not None:
        return following
    return Illegal(*_why_not(standing))


def _why_not(standing: Standing) -> tuple[str, str]:
    if standing.state is State.DELETED:
        return "INVALID_INSTANCE_STATE", "the instance is deleted"
    if standing.task is Task.DELETING:
        return "INVALID_INSTANCE_STATE", "the instance is being deleted"
    if standing.task is not Task.NONE:
        doing = standing.task.name.lower()
        return "OPERATION_UNDER_WAY", f"the instance is {doing}; wait for the operation's end"
    return "INVALID_INSTANCE_STATE", f"the instance is {standing.state.name}"


ASKED: dict[Action, Event] = {
    Action.DELETE: Event.DELETE_ASKED,
    Action.UPDATE: Event.UPDATE_ASKED,
    Action.START: Event.START_ASKED,
    Action.STOP: Event.STOP_ASKED,
    Action.REBOOT: Event.REBOOT_ASKED,
}


def allowed_actions(standing: Standing) -> list[Action]:
    """The actions that the table accepts in this standing, in their numbers' order."""
    return [a for a in Action if not isinstance(after(standing, ASKED[a]), Illegal)]


def blocked_actions(standing: Standing) -> list[Blocked]:
    """The other actions, in their numbers' order, each with the cause of its refusal."""
    answers = ((action, after(standing, ASKED[action])) for action in Action)
    return [Blocked(action, why) for action, why in answers if isinstance(why, Illegal)]
