"""Fences hosts that are DOWN by the operator's own means: runs them, and records that they said so.

Level-triggered: whatever was lost is done again at the next round. Does not fence hosts that are
UNKNOWN. Source: MECHANICS C5.
"""

import asyncio
import math
from dataclasses import replace

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import Clock, FenceDriver, Store
from services.conductor.logic.items import Committed, Item
from services.conductor.logic.leases import LEASE_S
from services.conductor.logic.rows import Fence
from services.domain.kinds import FenceKind, HostState
from services.runtime.log import logger

AT_ONCE_MAX = 4
AGAIN_S = 60.0


class Fencer:
    """Asks the driver for each host that is DOWN and not fenced, a few at a time."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        clock: Clock,
        driver: FenceDriver,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self._lease_s = lease_s
        self._store = store
        self._committer = committer
        self._clock = clock
        self._driver = driver
        self._not_before: dict[str, float] = {}

    async def fence_all(self) -> None:
        """One round."""
        found = await self._store.leases_read()
        now_s = self._clock.now_s()
        wanted = [
            one.host_id for one in found.leases if one.state is HostState.DOWN and not one.fenced
        ]
        self._not_before = {id_: self._not_before.get(id_, 0.0) for id_ in wanted}
        due = [id_ for id_ in wanted if self._not_before[id_] <= now_s][:AT_ONCE_MAX]
        # All of them are waited for: the next round must not run a program beside itself.
        ends = await asyncio.gather(*(self._fence(id_) for id_ in due), return_exceptions=True)
        for host_id, end in zip(due, ends, strict=True):
            if isinstance(end, Exception):
                logger().warning("not fenced", host=host_id, error=repr(end))

    async def _fence(self, host_id: str) -> None:
        before = (await self._store.hosts_read([host_id])).get(host_id)
        if before is None or before.state is not HostState.DOWN or before.fenced:
            return
        # The state may lag behind the lease: who has beaten since is not to be switched off.
        silent_s = (await self._store.silences_read([host_id])).get(host_id, math.inf)
        if silent_s <= self._lease_s:
            return
        # Whatever comes of it, it is not run again and again.
        self._not_before[host_id] = self._clock.now_s() + AGAIN_S
        if not await self._driver.fence(host_id):
            return
        fence = Fence(
            before.incarnation,
            FenceKind.DRIVER,
            self._driver.name,
            "the fence program ended with 0",
            self._clock.now_s(),
        )
        # On what was read before it ran: a Hello in between is of an agent that it did not fence.
        outcome = await self._committer.commit(Item(host=replace(before, fence=fence)), "")
        if isinstance(outcome, Committed):
            logger().warning("host fenced", host=host_id, incarnation=before.incarnation)
