"""What is to be done next for an instance, as a table that a reader can check.

| operation        | phase    | step    | how it ends                                          |
|------------------|----------|---------|------------------------------------------------------|
| CREATE_INSTANCE  | PLACING  | Place   | a decision makes a claim; a refusal fails it         |
| CREATE_INSTANCE  | BUILDING | Command | the holder reports it applied, or absence (tried on) |
| DELETE_INSTANCE  | REMOVING | Command | the holder reports absence                           |
| DELETE_INSTANCE  | REMOVING | LetGo   | host DOWN: DELETED now, the claim stays LEAVING      |
| START_INSTANCE   | STARTING | Command | the holder reports it applied, or a failure          |
| STOP_INSTANCE    | STOPPING | Command | the holder reports it applied, or a failure          |
| REBOOT_INSTANCE  | REBOOTING| Command | the holder reports it applied, or a failure          |
| the three above  |          | none    | host DOWN: they wait for it                          |
| any              | ENDED    | none    |                                                      |

Each but the deletes also ends CANCELLED when a delete is asked for, and a create also when it is
called off while PLACING. A START, STOP or REBOOT whose guest is lost ends FAILED.

Every step may be repeated; repeating is only waste. Does not own when to look again: the flow does.
"""

from dataclasses import dataclass

from services.conductor.logic.rows import ClaimRow, InstanceRow, Item, Situation
from services.domain.kinds import HostState
from services.domain.operation import Phase
from services.domain.trace import UNTRACED, Trace


@dataclass(frozen=True, slots=True)
class Place:
    """Ask the scheduler for a host; `trace` is that of the operation."""

    instance: InstanceRow
    trace: Trace = UNTRACED


@dataclass(frozen=True, slots=True)
class Command:
    """Tell the host of a claim what is wanted; `trace` is that of the operation under way."""

    instance: InstanceRow
    claim: ClaimRow
    trace: Trace = UNTRACED


@dataclass(frozen=True, slots=True)
class LetGo:
    """End a delete whose host is not heard of."""

    situation: Situation


Step = Place | Command | LetGo

POWER_PHASES = frozenset({Phase.STARTING, Phase.STOPPING, Phase.REBOOTING})

# The pace of looks, for the store to keep: a lost place message costs 1 s, a lost command 2 s while
# the operation is young; later looks double up to 60 s. Source: MECHANICS B5.
LOOK_AGAIN_FIRST_S = 2.0
LOOK_AGAIN_MAX_S = 60.0
PLACE_AGAIN_S = 1.0
YOUNG_S = 60.0


def next_step(situation: Situation) -> Step | None:
    """The step that brings the situation's operation, or a wish without one, further; None if
    nothing is to do.
    """
    holder, operation = situation.holder, situation.operation
    trace = operation.trace if operation else UNTRACED
    phase = operation.phase if operation else Phase.ENDED
    if phase is Phase.PLACING:
        return None if holder else Place(situation.instance, trace)
    if holder is None:
        return None
    if holder.host_state is HostState.DOWN:
        if phase is Phase.REMOVING:
            return LetGo(situation)
        if phase in POWER_PHASES:
            return None
    return Command(situation.instance, holder, trace)


def leaves_work(item: Item) -> bool:
    """Whether a committed item leaves a step to do: something else is wanted, or an operation goes
    on.
    """
    return item.wants or any(not operation.finished for operation in item.operations)
