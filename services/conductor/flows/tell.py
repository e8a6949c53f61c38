"""Tells the log what became of operations, with what finds the call that began them."""

from services.conductor.logic.items import Item
from services.conductor.logic.rows import OperationRow
from services.domain.operation import OperationState
from services.runtime.log import logger

UNTROUBLED = (OperationState.RUNNING, OperationState.DONE)


def tell_trouble(item: Item) -> None:
    """One line for each operation that a committed item ended without success."""
    for operation in item.operations:
        if operation.state not in UNTROUBLED:
            _tell(operation)


def _tell(operation: OperationRow) -> None:
    logger().warning(
        "operation ended",
        operation=operation.id,
        resource=operation.resource_id,
        action=operation.action.name,
        state=operation.state.name,
        reason=operation.fault.reason if operation.fault else "",
        correlation_id=operation.trace.correlation_id,
        traceparent=operation.trace.traceparent,
    )
