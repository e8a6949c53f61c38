"""Accepts that an instance leaves a host that is down and fenced. Only cloud admins ask for it."""

from dataclasses import replace

from services.conductor.flows.accept import Acceptance
from services.conductor.flows.advance import Advancer
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.logic import operations
from services.conductor.logic.evacuation import evacuated
from services.conductor.logic.items import Item
from services.domain.errors import WrongState
from services.domain.instance import Illegal
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction


class EvacuationAcceptor:
    """Turns wishes to evacuate into commits."""

    def __init__(self, acceptance: Acceptance, advancer: Advancer) -> None:
        self._acceptance = acceptance
        self._advancer = advancer

    async def evacuate(self, asked: Asked, instance_id: str) -> Accepted:
        """Lets go of its host and places it again, under a new epoch. Raises NotFound
        (INSTANCE_NOT_FOUND), WrongState (HOST_NOT_DOWN, HOST_NOT_FENCED, NOTHING_TO_EVACUATE,
        INVALID_INSTANCE_STATE, OPERATION_UNDER_WAY).
        """

        async def decide() -> Item:
            situation = await self._acceptance.instance(asked, instance_id)
            row, holder = situation.instance, situation.holder
            operation = operations.new_operation(
                self._acceptance.ids.new_id(),
                row,
                action=OperationAction.EVACUATE_INSTANCE,
                author=asked.author,
                now_s=self._acceptance.clock.now_s(),
            )
            host_ids = {claim.host_id for claim in situation.claims}
            hosts = await self._acceptance.store.hosts_read(sorted(host_ids))
            item = evacuated(situation, hosts, operation)
            if isinstance(item, Illegal):
                metadata = {"state": row.standing.state.name, "task": row.standing.task.name}
                if holder is not None:
                    metadata["host_id"] = holder.host_id
                raise WrongState(item.reason, f"cannot evacuate: {item.message}", metadata=metadata)
            key = asked.key(row.id, operation.id)
            return replace(item, request=key)

        accepted = await self._acceptance.accept(asked, ResourceKind.INSTANCE, decide)
        if accepted.made is not None:
            self._advancer.nudge(instance_id)
        return accepted
