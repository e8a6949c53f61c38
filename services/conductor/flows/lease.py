"""Leases of hosts: renewed by beats, compared with the recorded states now and then.

A host is DOWN only when its lease ran out while this conductor was there to hear it.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import BeatAnswer, Clock, Store
from services.conductor.logic.rows import Item
from services.domain.kinds import HostState
from services.runtime.log import logger

LEASE_S = 45.0
COMPARE_MAX = 500


class Leaser:
    """Renews leases and follows them with UP and DOWN."""

    def __init__(self, store: Store, committer: Committer, clock: Clock) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._hears_since_s = clock.now_s()

    async def beat(self, beats: Sequence[tuple[str, int]]) -> list[BeatAnswer]:
        """Renews the lease of each (host id, incarnation)."""
        return await self._store.leases_renew(beats)

    async def compare(self) -> None:
        """Records UP and DOWN where leases say otherwise than the rows."""
        heard_enough = self._clock.now_s() - self._hears_since_s > LEASE_S
        differing = await self._store.leases_compare(LEASE_S, COMPARE_MAX)
        rows = await self._store.hosts_read([host_id for host_id, _, _ in differing])
        for host_id, _, live in differing:
            if not live and not heard_enough:
                continue
            state = HostState.UP if live else HostState.DOWN
            await self._committer.commit(Item(host=replace(rows[host_id], state=state)), "")
            logger().warning("host state changed", host=host_id, state=state.name)
