"""Leases of hosts: renewed by beats, compared with the recorded states now and then.

A host is DOWN only when its lease ran out while this conductor was there to hear it: neither just
started, nor without its database, nor standing still.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import BeatAnswer, Clock, Store
from services.conductor.logic.rows import Committed, HostRow, Item
from services.domain.kinds import HostState
from services.runtime.log import logger

LEASE_S = 45.0
COMPARE_MAX = 500
# Compared less often than this, it was away.
AWAY_S = 15.0


class Leaser:
    """Renews leases and follows them with UP and DOWN."""

    def __init__(self, store: Store, committer: Committer, clock: Clock) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._hears_since_s = self._compared_at_s = clock.now_s()

    async def beat(self, beats: Sequence[tuple[str, int]]) -> list[BeatAnswer]:
        """Renews the lease of each (host id, incarnation)."""
        return await self._store.leases_renew(beats)

    async def compare(self) -> None:
        """Records UP and DOWN where leases say otherwise than the rows."""
        differing = await self._store.leases_compare(LEASE_S, COMPARE_MAX)
        now_s = self._clock.now_s()
        if now_s - self._compared_at_s > AWAY_S:
            self._hears_since_s = now_s
        self._compared_at_s = now_s
        heard_enough = now_s - self._hears_since_s > LEASE_S
        rows = await self._store.hosts_read([host_id for host_id, _, _ in differing])
        await asyncio.gather(
            *(
                self._record(rows[host_id], HostState.UP if live else HostState.DOWN)
                for host_id, _, live in differing
                if live or heard_enough
            )
        )

    async def _record(self, row: HostRow, state: HostState) -> None:
        outcome = await self._committer.commit(Item(host=replace(row, state=state)), "")
        if isinstance(outcome, Committed):
            logger().warning("host state changed", host=row.id, state=state.name)
