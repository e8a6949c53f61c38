"""What is to be done next for an instance, as a table that a reader can check.

| operation        | phase    | step    | how it ends                                          |
|------------------|----------|---------|------------------------------------------------------|
| CREATE_INSTANCE  | PLACING  | Place   | a decision makes a claim; a refusal fails it         |
| CREATE_INSTANCE  | BUILDING | Command | the holder reports it applied, or absence (tried on) |
| DELETE_INSTANCE  | REMOVING | Command | the holder reports absence                           |
| DELETE_INSTANCE  | REMOVING | LetGo   | host DOWN: DELETED now, the claim stays LEAVING      |
| any              | ENDED    | none    |                                                      |

Every step may be repeated; repeating is only waste. Does not own when to look again: the flow does.
"""

from dataclasses import dataclass

from services.conductor.logic.rows import ClaimRow, InstanceRow, Item, Situation
from services.domain.kinds import HostState
from services.domain.operation import Phase


@dataclass(frozen=True, slots=True)
class Place:
    """Ask the scheduler for a host."""

    instance: InstanceRow


@dataclass(frozen=True, slots=True)
class Command:
    """Tell the host of a claim what is wanted."""

    instance: InstanceRow
    claim: ClaimRow


@dataclass(frozen=True, slots=True)
class LetGo:
    """End a delete whose host is not heard of."""

    situation: Situation


Step = Place | Command | LetGo

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
    holder = situation.holder
    operation = situation.operation
    if operation is not None and operation.phase is Phase.PLACING:
        return None if holder else Place(situation.instance)
    if holder is None:
        return None
    if (
        operation is not None
        and operation.phase is Phase.REMOVING
        and holder.host_state is HostState.DOWN
    ):
        return LetGo(situation)
    return Command(situation.instance, holder)


def leaves_work(item: Item) -> bool:
    """Whether a committed item leaves a step to do: something else is wanted, or an operation goes
    on.
    """
    return item.wants or any(not operation.finished for operation in item.operations)
