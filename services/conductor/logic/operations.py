"""Operations as they begin, go on and end.

Owns how an operation's row changes. Does not own when: lifecycle and power say so.
"""

from dataclasses import dataclass, replace

from services.conductor.logic.items import Item
from services.conductor.logic.rows import InstanceRow, OperationFault, OperationRow
from services.conductor.logic.step_table import Deadlines
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.trace import UNTRACED, Trace

PROGRESS_MAX = 200

# gRPC status codes that a failed or cancelled operation carries.
CANCELLED = 1
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
INTERNAL = 13

_FIRST = {
    OperationAction.CREATE_INSTANCE: Phase.PLACING,
    OperationAction.DELETE_INSTANCE: Phase.REMOVING,
    OperationAction.START_INSTANCE: Phase.STARTING,
    OperationAction.STOP_INSTANCE: Phase.STOPPING,
    OperationAction.REBOOT_INSTANCE: Phase.REBOOTING,
    OperationAction.PAUSE_INSTANCE: Phase.PAUSING,
    OperationAction.UNPAUSE_INSTANCE: Phase.UNPAUSING,
    OperationAction.SUSPEND_INSTANCE: Phase.SUSPENDING,
    OperationAction.RESUME_INSTANCE: Phase.RESUMING,
    OperationAction.EVACUATE_INSTANCE: Phase.PLACING,
}


@dataclass(frozen=True, slots=True)
class Author:
    """Who asked for an operation, with which request id, in which call."""

    subject: str
    request_id: str
    trace: Trace = UNTRACED


@dataclass(frozen=True, slots=True)
class About:
    """What an operation is about, and whose it is."""

    project_id: str
    resource_id: str


def new_operation(
    id: str, row: InstanceRow, *, action: OperationAction, author: Author, now_s: float
) -> OperationRow:
    """The operation of work on an instance, in its first phase."""
    about = About(row.project_id, row.id)
    return _operation(id, about, action=action, author=author, begun=(_FIRST[action], now_s))


def done_operation(
    id: str, about: About, *, action: OperationAction, author: Author, now_s: float
) -> OperationRow:
    """The operation of what is done with its acceptance."""
    made = _operation(id, about, action=action, author=author, begun=(Phase.ENDED, now_s))
    return replace(made, state=OperationState.DONE, ended_at_s=now_s)


def entered(operation: OperationRow, phase: Phase, now_s: float) -> OperationRow:
    """The operation in its next phase."""
    phases = (*operation.phases, (phase, now_s))
    return replace(operation, phases=phases, progress="", deadline_at_s=0.0)


def ended(
    operation: OperationRow,
    state: OperationState,
    now_s: float,
    fault: OperationFault | None = None,
) -> OperationRow:
    """The operation at its end."""
    last = entered(operation, Phase.ENDED, now_s)
    return replace(last, state=state, ended_at_s=now_s, fault=fault)


def dated(item: Item, deadlines: Deadlines) -> Item:
    """The item, each of its unfinished operations with the deadline of its phase. The time that a
    guest has to go down by itself comes on top.
    """
    if all(o.finished or o.deadline_at_s for o in item.operations):
        return item
    grace_s = item.instance.wanted.grace_s if item.instance is not None else 0
    return replace(item, operations=tuple(_dated(o, deadlines, grace_s) for o in item.operations))


def _dated(operation: OperationRow, deadlines: Deadlines, grace_s: int) -> OperationRow:
    if operation.finished or operation.deadline_at_s:
        return operation
    phase, began_s = operation.phases[-1]
    allowed_s = deadlines.of(operation.action, phase) + grace_s
    return replace(operation, deadline_at_s=began_s + allowed_s)


def progressed(operation: OperationRow, progress: str) -> OperationRow | None:
    """The operation with its host's word on how far it is; None if that is no news."""
    told = progress[:PROGRESS_MAX]
    return replace(operation, progress=told) if told and told != operation.progress else None


def _operation(
    id: str,
    about: About,
    *,
    action: OperationAction,
    author: Author,
    begun: tuple[Phase, float],
) -> OperationRow:
    return OperationRow(
        id=id,
        project_id=about.project_id,
        resource_id=about.resource_id,
        action=action,
        state=OperationState.RUNNING,
        phases=(begun,),
        actor=author.subject,
        request_id=author.request_id,
        created_at_s=begun[1],
        trace=author.trace,
    )
