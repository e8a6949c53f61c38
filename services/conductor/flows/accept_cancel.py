"""Accepts that an operation is called off, while nothing of it is done on any host."""

from dataclasses import replace

from services.conductor.flows.accept import Acceptance, missing
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.commit import Urgency
from services.conductor.flows.ports import Bodies, Query
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item
from services.conductor.logic.rows import OperationRow
from services.domain.errors import WrongState
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction, shown_to


class CancelAcceptor:
    """Turns wishes to call something off into commits."""

    def __init__(self, acceptance: Acceptance, bodies: Bodies) -> None:
        self._acceptance = acceptance
        self._bodies = bodies

    async def cancel(self, asked: Asked, operation_id: str) -> Accepted:
        """Ends the operation CANCELLED and its instance DELETED; both answers are the operation.

        Raises NotFound (OPERATION_NOT_FOUND) also for another project's, WrongState
        (OPERATION_NOT_CANCELLABLE).
        """

        async def decide() -> Item:
            operation = await self._operation(asked, operation_id)
            item = await self._decided(operation)
            return replace(item, request=asked.key(operation.id, operation.id))

        return await self._acceptance.accept(
            asked, ResourceKind.OPERATION, decide, urgency=Urgency.REMOVED
        )

    async def _operation(self, asked: Asked, operation_id: str) -> OperationRow:
        shown = shown_to(cloud_admin=asked.caller.cloud_admin)
        query = Query(ResourceKind.OPERATION, operation_id, "", "", 1, conditions=shown)
        (page,) = await self._acceptance.store.records_read([query])
        for record in page.records:
            if asked.may_touch(record.project_id):
                return self._bodies.operation_of(record)
        raise missing(ResourceKind.OPERATION, operation_id)

    async def _decided(self, operation: OperationRow) -> Item:
        item = None
        if operation.action is OperationAction.CREATE_INSTANCE and not operation.finished:
            found = await self._acceptance.store.situations_read([operation.resource_id])
            situation = found.get(operation.resource_id)
            if situation and situation.operation and situation.operation.id == operation.id:
                item = lifecycle.cancel_asked(situation, self._acceptance.clock.now_s())
        if item is None:
            raise WrongState(
                "OPERATION_NOT_CANCELLABLE",
                "it has ended or a host is at work on it; delete the instance instead",
                metadata={"state": operation.state.name, "phase": operation.phase.name},
            )
        return item
