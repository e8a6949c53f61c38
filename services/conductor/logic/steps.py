"""What is to be done next for an instance: the row of the table (step_table) that holds now.

Every step may be repeated; repeating is only waste. Does not own the table, nor when to look again:
the store does, at the table's pace.
"""

from dataclasses import dataclass

from services.conductor.logic.items import Item
from services.conductor.logic.rows import ClaimRow, InstanceRow, Situation
from services.conductor.logic.step_table import (
    Row,
    StepKind,
    When,
    rows_of,
)
from services.domain.kinds import HostState
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


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End an operation whose deadline has passed, with what is to be undone."""

    situation: Situation


@dataclass(frozen=True, slots=True)
class MoveOn:
    """Take a build from a host that is fenced, for another one."""

    situation: Situation


Step = Place | Command | LetGo | MoveOn | GiveUp


def row_now(situation: Situation) -> Row | None:
    """The row of the table that holds now; None without an operation, or where nothing can be done
    before something happens.
    """
    operation = situation.operation
    if operation is None:
        return None
    rows = rows_of(operation.action, operation.phase)
    return next((row for row in rows if _holds(row.when, situation)), None)


def next_step(situation: Situation) -> Step | None:
    """The step that brings the situation's operation, or a wish without one, further; None if
    nothing is to do.
    """
    holder, operation = situation.holder, situation.operation
    if operation is None:
        return Command(situation.instance, holder) if holder else None
    row = row_now(situation)
    if row is None or row.step is StepKind.WAIT:
        return None
    if row.step is StepKind.PLACE:
        return Place(situation.instance, operation.trace)
    if row.step is StepKind.COMMAND and holder is not None:
        return Command(situation.instance, holder, operation.trace)
    if row.step is StepKind.MOVE_ON:
        return MoveOn(situation)
    return LetGo(situation) if row.step is StepKind.LET_GO else GiveUp(situation)


def leaves_work(item: Item) -> bool:
    """Whether a committed item leaves a step to do: something else is wanted, or an operation goes
    on.
    """
    return item.wants or any(not operation.finished for operation in item.operations)


def _holds(when: When, situation: Situation) -> bool:
    holder = situation.holder
    if when is When.OVERDUE:
        return situation.overdue
    if when is When.HOST_DOWN:
        return holder is not None and holder.host_state is HostState.DOWN
    if when is When.HOST_FENCED:
        down = holder is not None and holder.host_state is HostState.DOWN
        return down and holder is not None and holder.host_fenced
    if when is When.HELD:
        return holder is not None
    return when is When.UNHELD and holder is None
