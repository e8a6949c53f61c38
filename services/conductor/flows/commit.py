"""Commits items in rounds and tells the followers.

Owns the commit lane of this conductor: one round in flight, its changes published in the order of
revisions.
"""

from collections.abc import Sequence

from services.conductor.flows.ports import Bus, Store
from services.conductor.logic.rows import Committed, Item, Outcome
from services.runtime.lane import Lane


class Committer:
    """The one way to a commit."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._head = 0
        self._lane: Lane[Item, Outcome] = Lane(self._round, name="commits")

    async def commit(self, item: Item, key: str = "") -> Outcome:
        """Commits one item with whatever else waits; `key` is whose turn it takes (the project)."""
        return await self._lane.submit(item, key)

    async def run(self) -> None:
        """Runs the lane until cancelled."""
        await self._lane.run()

    async def heartbeat(self) -> None:
        """Publishes the head, so that a lost last message is noticed."""
        _, head = await self._store.changes_read(1 << 62, 1)
        self._head = max(self._head, head)
        await self._bus.feed((), head)

    async def _round(self, items: Sequence[Item]) -> list[Outcome | Exception]:
        outcomes = await self._store.items_commit(items)
        records = [r for o in outcomes if isinstance(o, Committed) for r in o.records]
        if records:
            records.sort(key=lambda record: record.revision)
            self._head = max(self._head, records[-1].revision)
            await self._bus.feed(records, self._head)
        return list(outcomes)
