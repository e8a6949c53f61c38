"""Leases of hosts: renewed by beats, judged now and then, and the hosts' states brought up to that.

Owns the order of things and the alarm. Does not own what a silence means (logic/leases).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import BeatAnswer, Clock, Store
from services.conductor.logic.items import Committed, Item
from services.conductor.logic.leases import LEASE_S, Beat, Leases, judged
from services.conductor.logic.rows import HostRow
from services.domain.kinds import HostState
from services.runtime.log import logger

COMPARE_MAX = 500


class Leaser:
    """Renews leases and follows them with UP, DOWN and UNKNOWN."""

    def __init__(
        self, store: Store, committer: Committer, clock: Clock, *, lease_s: float = LEASE_S
    ) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._lease_s = lease_s
        self._lost = 0
        self.states: Counter[HostState] = Counter()

    def states_now(self) -> Counter[HostState]:
        """How many hosts are in each state, as they were last judged."""
        return self.states

    async def beat(self, beats: Sequence[Beat]) -> list[BeatAnswer]:
        """Renews the leases. Also none are a sign: of the road."""
        return await self._store.leases_renew(beats)

    async def compare(self) -> None:
        """Records states where leases say otherwise than the rows."""
        found = await self._store.leases_read()
        self._alarm(found)
        changed = self._changed(found)
        if not changed:
            return
        rows = await self._store.hosts_read(sorted(changed)[:COMPARE_MAX])
        # Once more, behind the rows: a sign of life that came before them is seen here, and a Hello
        # that comes after them makes the commit stale.
        still = self._changed(await self._store.leases_read())
        await asyncio.gather(
            *(self._record(row, still[id_]) for id_, row in rows.items() if id_ in still)
        )

    def _changed(self, found: Leases) -> dict[str, HostState]:
        """The state that each host should have which has another."""
        states = judged(found, self._lease_s)
        return {
            one.host_id: states[one.host_id]
            for one in found.leases
            if states[one.host_id] is not one.state
        }

    def _alarm(self, found: Leases) -> None:
        """Tells of hosts that are UNKNOWN and silent; one that beats says itself what it lacks."""
        states = judged(found, self._lease_s)
        unknown = [one for one in found.leases if states[one.host_id] is HostState.UNKNOWN]
        lost = sum(one.silent_s > self._lease_s for one in unknown)
        before, self._lost = self._lost, lost
        self.states = Counter(states.values())
        if lost > before:
            logger().error(
                "hosts are silent and it is not known why: nothing is given up, none is DOWN",
                unknown=lost,
                hosts=len(found.leases),
            )
        elif lost < before:
            logger().warning("silent hosts are known of again", unknown=lost)

    async def _record(self, row: HostRow, state: HostState) -> None:
        outcome = await self._committer.commit(Item(host=replace(row, state=state)), "")
        if isinstance(outcome, Committed):
            logger().warning("host state changed", host=row.id, state=state.name)
