"""An instance: its states, and the one table of legal transitions.

    REQUESTED --place--> BUILDING --started--> ACTIVE <--stop, start--> STOPPED
        |                   |                  |                        |
        +----- failed ------+--> ERROR <-lost--+------------------------+
        +-------------------+------ delete ----+------------------------+--> DELETED

An ACTIVE one may also reboot, be paused (it stays in memory and does nothing) or suspended (its
memory goes to disk), and come back from both as it was. While it starts, stops, reboots, pauses and
so on, or is evacuated, the state is the one before and the task says what is under way.

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
    PAUSED = 7
    SUSPENDED = 8


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
    PAUSING = 9
    UNPAUSING = 10
    SUSPENDING = 11
    RESUMING = 12


class Power(IntEnum):
    """What its host last saw of the guest's power switch; RUNNING, OFF, PAUSED and SUSPENDED are
    also what can be wanted of it.
    """

    PENDING = 1
    RUNNING = 2
    OFF = 3
    CRASHED = 4
    PAUSED = 5
    SUSPENDED = 6


# In memory: what leaves or makes room must first be stopped.
ALIVE = frozenset({Power.RUNNING, Power.PAUSED})


class Action(IntEnum):
    """What a user can ask of an instance."""

    DELETE = 1
    UPDATE = 2
    START = 3
    STOP = 4
    REBOOT = 5
    PAUSE = 6
    UNPAUSE = 7
    SUSPEND = 8
    RESUME = 9
    HARD_REBOOT = 10


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
    PAUSE_ASKED = "pause asked"
    UNPAUSE_ASKED = "unpause asked"
    SUSPEND_ASKED = "suspend asked"
    RESUME_ASKED = "resume asked"
    HARD_REBOOT_ASKED = "hard reboot asked"
    EVACUATE_ASKED = "evacuate asked"
    CANCELLED = "cancelled"
    SEEN_RUNNING = "seen running"
    SEEN_OFF = "seen off"
    SEEN_PAUSED = "seen paused"
    SEEN_SUSPENDED = "seen suspended"
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
_PAUSED = Standing(State.PAUSED, Task.NONE)
_SUSPENDED = Standing(State.SUSPENDED, Task.NONE)
_ERROR = Standing(State.ERROR, Task.NONE)
_DELETED = Standing(State.DELETED, Task.NONE)

# Where a guest comes to rest, by what its host sees of it.
SEEN: dict[Power, Event] = {
    Power.RUNNING: Event.SEEN_RUNNING,
    Power.OFF: Event.SEEN_OFF,
    Power.CRASHED: Event.SEEN_OFF,
    Power.PAUSED: Event.SEEN_PAUSED,
    Power.SUSPENDED: Event.SEEN_SUSPENDED,
}
_RESTING = {
    Event.SEEN_RUNNING: _ACTIVE,
    Event.SEEN_OFF: _STOPPED,
    Event.SEEN_PAUSED: _PAUSED,
    Event.SEEN_SUSPENDED: _SUSPENDED,
}

_SWITCHES: dict[Event, tuple[Task, tuple[Standing, ...]]] = {
    Event.START_ASKED: (Task.STARTING, (_STOPPED,)),
    Event.STOP_ASKED: (Task.STOPPING, (_ACTIVE,)),
    Event.REBOOT_ASKED: (Task.REBOOTING, (_ACTIVE,)),
    Event.HARD_REBOOT_ASKED: (Task.REBOOTING, tuple(_RESTING.values())),
    Event.PAUSE_ASKED: (Task.PAUSING, (_ACTIVE,)),
    Event.UNPAUSE_ASKED: (Task.UNPAUSING, (_PAUSED,)),
    Event.SUSPEND_ASKED: (Task.SUSPENDING, (_ACTIVE,)),
    Event.RESUME_ASKED: (Task.RESUMING, (_SUSPENDED,)),
}
_ASKED = {
    (before, event): Standing(before.state, task)
    for event, (task, befores) in _SWITCHES.items()
    for before in befores
}
_SWITCHING = tuple(dict.fromkeys(_ASKED.values()))
_EVACUATING = {
    standing: Standing(standing.state, Task.EVACUATING) for standing in (*_RESTING.values(), _ERROR)
}

_BEFORE_DELETE = (
    _R_SCHEDULING, _B_SPAWNING, *_RESTING.values(), _ERROR, *_SWITCHING, *_EVACUATING.values(),
)  # fmt: skip
_DELETING = tuple(dict.fromkeys(Standing(s.state, Task.DELETING) for s in _BEFORE_DELETE))
STANDINGS = (*_BEFORE_DELETE, *_DELETING, _DELETED)

TABLE: dict[tuple[Standing, Event], Standing] = {
    (_R_SCHEDULING, Event.CLAIMED): _B_SPAWNING,
    (_R_SCHEDULING, Event.FAILED): _ERROR,
    (_R_SCHEDULING, Event.CANCELLED): _DELETED,
    (_B_SPAWNING, Event.STARTED): _ACTIVE,
    (_B_SPAWNING, Event.BUILD_LOST): _R_SCHEDULING,
    (_B_SPAWNING, Event.FAILED): _ERROR,
    **_ASKED,
    # However a switch ends, done or failed, the guest is then what its host sees.
    **{(during, seen): rest for during in _SWITCHING for seen, rest in _RESTING.items()},
    # Somebody else's hand: its owner from inside, a crash, or whoever is at the hypervisor.
    **{
        (before, seen): rest
        for before in _RESTING.values()
        for seen, rest in _RESTING.items()
        if before != rest
    },
    **{(before, Event.GUEST_LOST): _ERROR for before in (*_RESTING.values(), *_SWITCHING)},
    # Only cloud admins ask for it, and only of a host that is down and fenced. What was in its
    # memory is gone, so that it comes up running or stays off.
    **{(before, Event.EVACUATE_ASKED): during for before, during in _EVACUATING.items()},
    **{(during, Event.CLAIMED): during for during in _EVACUATING.values()},
    **{(during, Event.BUILD_LOST): during for during in _EVACUATING.values()},
    **{(during, Event.SEEN_RUNNING): _ACTIVE for during in _EVACUATING.values()},
    **{(during, Event.SEEN_OFF): _STOPPED for during in _EVACUATING.values()},
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
# The tasks of a power switch.
SWITCHING_TASKS = frozenset(standing.task for standing in _SWITCHING)


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
    Action.PAUSE: Event.PAUSE_ASKED,
    Action.UNPAUSE: Event.UNPAUSE_ASKED,
    Action.SUSPEND: Event.SUSPEND_ASKED,
    Action.RESUME: Event.RESUME_ASKED,
    Action.HARD_REBOOT: Event.HARD_REBOOT_ASKED,
}


def allowed_actions(standing: Standing) -> list[Action]:
    """The actions that the table accepts in this standing, in their numbers' order."""
    return [a for a in Action if not isinstance(after(standing, ASKED[a]), Illegal)]


def blocked_actions(standing: Standing) -> list[Blocked]:
    """The other actions, in their numbers' order, each with the cause of its refusal."""
    answers = ((action, after(standing, ASKED[action])) for action in Action)
    return [Blocked(action, why) for action, why in answers if isinstance(why, Illegal)]
