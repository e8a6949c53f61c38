"""Accepts that a host is opened or closed for new instances."""

from dataclasses import replace

from services.conductor.flows.accept import Acceptance, missing
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.logic.operations import About
from services.conductor.logic.rows import Item
from services.domain.ids import is_host_id
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction


class HostAcceptor:
    """Turns wishes about hosts into commits."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance

    async def enable(self, asked: Asked, host_id: str) -> Accepted:
        """Lets instances be placed on it. Raises NotFound (HOST_NOT_FOUND)."""
        return await self._set(asked, host_id, OperationAction.ENABLE_HOST)

    async def disable(self, asked: Asked, host_id: str, reason: str) -> Accepted:
        """Keeps new instances off it; those that are there stay. Raises NotFound
        (HOST_NOT_FOUND).
        """
        return await self._set(asked, host_id, OperationAction.DISABLE_HOST, disabled_reason=reason)

    async def _set(
        self, asked: Asked, host_id: str, action: OperationAction, *, disabled_reason: str = ""
    ) -> Accepted:
        async def decide() -> Item:
            known = [host_id] if is_host_id(host_id) else []
            row = (await self._acceptance.store.hosts_read(known)).get(host_id)
            if row is None:
                raise missing(ResourceKind.HOST, host_id)
            enabled = action is OperationAction.ENABLE_HOST
            changed = replace(row, enabled=enabled, disabled_reason=disabled_reason)
            about = About(asked.caller.project_id, host_id)
            operation = self._acceptance.done(asked, action, about)
            return Item(
                request=asked.key(host_id, operation.id),
                host=None if changed == row else changed,
                operations=(operation,),
            )

        return await self._acceptance.accept(asked, ResourceKind.HOST, decide)
