"""Accepts what admins say of a host: open, closed, dead, gone."""

import math
from dataclasses import replace

from services.conductor.flows.accept import Acceptance, missing
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.logic.items import Item
from services.conductor.logic.leases import LEASE_S
from services.conductor.logic.operations import About
from services.conductor.logic.rows import Fence, HostRow
from services.domain.errors import WrongState
from services.domain.ids import is_host_id
from services.domain.kinds import FenceKind, HostState, ResourceKind
from services.domain.operation import OperationAction


class HostAcceptor:
    """Turns wishes about hosts into commits."""

    def __init__(self, acceptance: Acceptance, *, lease_s: float = LEASE_S) -> None:
        self._acceptance = acceptance
        self._lease_s = lease_s

    async def enable(self, asked: Asked, host_id: str) -> Accepted:
        """Lets instances be placed on it. Raises NotFound (HOST_NOT_FOUND)."""
        return await self._set(asked, host_id, OperationAction.ENABLE_HOST)

    async def disable(self, asked: Asked, host_id: str, reason: str) -> Accepted:
        """Keeps new instances off it; those that are there stay. Raises NotFound
        (HOST_NOT_FOUND).
        """
        return await self._set(asked, host_id, OperationAction.DISABLE_HOST, disabled_reason=reason)

    async def fence(self, asked: Asked, host_id: str, reason: str) -> Accepted:
        """Records that its agent and guests run no more, on the caller's word: it is DOWN, and its
        instances may be evacuated. Raises NotFound (HOST_NOT_FOUND), WrongState (HOST_NOT_DOWN)
        while its lease is live.
        """

        async def decide() -> Item:
            row = await self._silent(host_id)
            return self._item(asked, self._over(asked, row, reason), OperationAction.FENCE_HOST)

        return await self._acceptance.accept(asked, ResourceKind.HOST, decide)

    async def remove(self, asked: Asked, host_id: str) -> Accepted:
        """Forgets it with what is left of instances on it. Raises NotFound (HOST_NOT_FOUND),
        WrongState (HOST_NOT_DOWN) while its lease is live, (HOST_NOT_EMPTY) while an instance lives
        there. MECHANICS C6.
        """

        async def decide() -> Item:
            row = await self._silent(host_id)
            # Fenced with it: what its agent may still say is no longer heard.
            removed = replace(self._over(asked, row, "removed"), deleted=True)
            return self._item(asked, removed, OperationAction.REMOVE_HOST)

        return await self._acceptance.accept(asked, ResourceKind.HOST, decide)

    def _over(self, asked: Asked, row: HostRow, reason: str) -> HostRow:
        """The host with its incarnation fenced on the caller's word, unless it is already."""
        now_s = self._acceptance.clock.now_s()
        by = asked.caller.subject
        fence = Fence(row.incarnation, FenceKind.VOUCHED, by, reason, now_s)
        return replace(row, state=HostState.DOWN, fence=row.fence if row.fenced else fence)

    async def _silent(self, host_id: str) -> HostRow:
        known = [host_id] if is_host_id(host_id) else []
        store = self._acceptance.store
        row = (await store.hosts_read(known)).get(host_id)
        if row is None or row.deleted:
            raise missing(ResourceKind.HOST, host_id)
        # Behind the row: a Hello in between makes the commit stale. Who is heard of need not be UP:
        # its bus may be silent, or its state behind its lease.
        silent_s = (await store.silences_read(known)).get(host_id, math.inf)
        if row.state is HostState.UP or (silent_s <= self._lease_s and not row.fenced):
            raise WrongState(
                "HOST_NOT_DOWN",
                f"host {host_id} is heard of; end its agent and wait for its lease to lapse",
                metadata={"host_id": host_id, "state": row.state.name},
            )
        return row

    def _item(self, asked: Asked, row: HostRow, action: OperationAction) -> Item:
        about = About(asked.caller.project_id, row.id)
        operation = self._acceptance.done(asked, action, about)
        return Item(request=asked.key(row.id, operation.id), host=row, operations=(operation,))

    async def _set(
        self, asked: Asked, host_id: str, action: OperationAction, *, disabled_reason: str = ""
    ) -> Accepted:
        async def decide() -> Item:
            known = [host_id] if is_host_id(host_id) else []
            row = (await self._acceptance.store.hosts_read(known)).get(host_id)
            if row is None or row.deleted:
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
