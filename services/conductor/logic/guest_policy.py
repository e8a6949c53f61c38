"""What follows when a guest is not as it was left: one table, state x what its host sees of it.

For a guest of the claim that holds the instance, whoever changed it: its owner from inside, a
crash, or somebody at the hypervisor. The wish follows what is seen, so nothing is started or
stopped against its owner; nothing that may be somebody's work is erased. Where a task is under way,
what was asked for has the first word (`power`). Hosts notice by events, and by a slow look twice a
minute.

Owns the policy in words. Does not carry it out: `lifecycle` and `power` do; a test compares.
Source: MECHANICS B1, C6; for comparison Nova's _sync_instance_power_state, which stops guests that
run against the record.
"""

from dataclasses import dataclass
from enum import Enum

from services.conductor.logic.rows import ClaimRow, InstanceRow
from services.domain.instance import Power, State
from services.domain.kinds import ClaimRole


class Sight(Enum):
    """What a host can see of a guest: its power; that nothing is left of one that was made (LOST);
    that nothing is left and nothing will come (ABSENT); or that it has not looked (UNSEEN).
    """

    UNSEEN = "not looked at"
    RUNNING = "runs"
    OFF = "off"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    CRASHED = "crashed"
    LOST = "vanished"
    ABSENT = "given up by its host"


@dataclass(frozen=True, slots=True)
class Follows:
    """What becomes of the instance: its state, power and how it shall be, None where that stays as
    it is. `fault`: it says why. `released`: the claim ends, its resources return.
    """

    why: str
    state: State | None = None
    power: Power | None = None
    wish: Power | None = None
    fault: bool = False
    released: bool = False


_STAYS = Follows("as it is")
_BUILT = Follows("built", State.ACTIVE, Power.RUNNING, Power.RUNNING)
_BUILT_OFF = Follows("built, went off since", State.STOPPED, Power.OFF, Power.OFF)
_BUILT_CRASHED = Follows("built, crashed since", State.STOPPED, Power.CRASHED, Power.OFF)
_BUILT_LOST = Follows("built, vanished since", State.STOPPED, Power.CRASHED, Power.OFF, fault=True)
_AGAIN = Follows("placed on another host", State.REQUESTED, Power.PENDING, released=True)
_DOWN = Follows("crashed: not started again unasked", State.STOPPED, Power.CRASHED, Power.OFF)
_LOST = Follows(
    "vanished: its claim stays, so that it may come back; START fails, DELETE works",
    State.STOPPED, Power.CRASHED, Power.OFF, fault=True,
)  # fmt: skip
_GONE = Follows("lost for ever", State.ERROR, Power.PENDING, fault=True, released=True)
_SEEN_DOWN = Follows("its power is noted", power=Power.CRASHED)
_SEEN_LOST = Follows("vanished while off: noted", power=Power.CRASHED, fault=True)
# By whom it was made so: its owner from inside, or somebody at the hypervisor.
_SWITCHED = {
    Sight.RUNNING: Follows(
        "started behind stead's back: its owner's will",
        State.ACTIVE, Power.RUNNING, Power.RUNNING,
    ),
    Sight.OFF: Follows(
        "stopped behind stead's back: its owner's will", State.STOPPED, Power.OFF, Power.OFF
    ),
    Sight.PAUSED: Follows(
        "paused behind stead's back: not unasked made to go on",
        State.PAUSED, Power.PAUSED, Power.PAUSED,
    ),
    Sight.SUSPENDED: Follows(
        "suspended behind stead's back: its memory is kept",
        State.SUSPENDED, Power.SUSPENDED, Power.SUSPENDED,
    ),
}  # fmt: skip
_AT_REST = {
    State.ACTIVE: Sight.RUNNING,
    State.STOPPED: Sight.OFF,
    State.PAUSED: Sight.PAUSED,
    State.SUSPENDED: Sight.SUSPENDED,
}
MADE = frozenset(_AT_REST)

POLICY: dict[tuple[State, Sight], Follows] = {
    (State.BUILDING, Sight.UNSEEN): _STAYS,
    (State.BUILDING, Sight.RUNNING): _BUILT,
    (State.BUILDING, Sight.OFF): _BUILT_OFF,
    (State.BUILDING, Sight.PAUSED): _SWITCHED[Sight.PAUSED],
    (State.BUILDING, Sight.SUSPENDED): _SWITCHED[Sight.SUSPENDED],
    (State.BUILDING, Sight.CRASHED): _BUILT_CRASHED,
    (State.BUILDING, Sight.LOST): _BUILT_LOST,
    (State.BUILDING, Sight.ABSENT): _AGAIN,
    **{(state, Sight.UNSEEN): _STAYS for state in MADE},
    **{
        (state, sight): _STAYS if sight is rests else follows
        for state, rests in _AT_REST.items()
        for sight, follows in _SWITCHED.items()
    },
    **{(state, Sight.CRASHED): _SEEN_DOWN if state is State.STOPPED else _DOWN for state in MADE},
    **{(state, Sight.LOST): _SEEN_LOST if state is State.STOPPED else _LOST for state in MADE},
    **{(state, Sight.ABSENT): _GONE for state in MADE},
}
# These have no holder, so nothing that a host sees is about them; what it has of them stays where
# it is (quarantine), or leaves by its own claim.
WITHOUT_GUEST = frozenset({State.REQUESTED, State.ERROR, State.DELETED})

LOST_REASON = "GUEST_LOST"
# Its claim is new: what is made under it is not there yet.
COMING = frozenset({"EVACUATING"})


def is_built(instance: InstanceRow, claim: ClaimRow) -> bool:
    """Whether the guest was made under this claim: where nothing is left of it then, it is lost,
    and making it anew would put an empty disk in the place of its owner's work.
    """
    standing = instance.standing
    return (
        claim.role is ClaimRole.HOLDER
        and standing.state in MADE
        and standing.task.name not in COMING
    )
