"""Commits items in rounds and tells the followers.

Owns the commit lane of this conductor: one round in flight, its changes published in the order of
revisions; and the lane of dry runs, which changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import IntEnum

from services.conductor.flows.ports import Bus, Store
from services.conductor.flows.remember import Memory
from services.conductor.logic.items import Committed, Item, Outcome
from services.conductor.logic.operations import dated
from services.conductor.logic.paces import USUAL_PACES, Paces
from services.conductor.logic.step_table import USUAL_DEADLINES, Deadlines
from services.conductor.logic.weight import weight_of
from services.domain.reasons import REASONS
from services.runtime.lane import Lane

# A round of dry runs holds what a commit needs: it is small, and while commits wait it lets them by
# for a while.
CHECKS_MAX = 32
PAUSE_S = 0.01
PAUSES_MAX = 10


class Urgency(IntEnum):
    """What goes first when more waits than one round takes: what hosts saw and were given, then
    what removes something, then what is new. Source: MECHANICS A4.
    """

    OBSERVED = 0
    REMOVED = 1
    ACCEPTED = 2


class Committer:
    """The one way to a commit; `memory` is what is known from it, `ended` counts the operations
    that it has ended, by action, state and reason. `deadlines` are how long phases may last,
    `paces` how soon they are looked at.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        deadlines: Deadlines = USUAL_DEADLINES,
        *,
        paces: Paces = USUAL_PACES,
    ) -> None:
        self._deadlines = deadlines
        self._paces = paces
        self.memory = Memory()
        self.ended: Counter[tuple[str, ...]] = Counter()
        self._store = store
        self._bus = bus
        self._head = 0
        self._compacted = 0
        self._lane: Lane[Item, Outcome] = Lane(self._round, name="commits")
        self._checks: Lane[Item, Outcome] = Lane(
            self._check_round, name="dry runs", items_max=CHECKS_MAX
        )

    async def commit(
        self,
        item: Item,
        key: str = "",
        *,
        urgency: Urgency = Urgency.OBSERVED,
        deadline: float | None = None,
    ) -> Outcome:
        """Commits one item with whatever else waits; `key` is whose turn it takes (the project).

        Raises Unavailable (DEADLINE_PASSED) where the `deadline` (by the loop's clock) passes while
        it waits: then it was not committed, NoCapacity (LANE_FULL) where too much waits.
        """
        item = self._paces.paced(dated(item, self._deadlines))
        return await self._lane.submit(
            item,
            key,
            priority=urgency,
            size_bytes=weight_of(item),
            time_left_s=_time_left_s(deadline),
        )

    async def check(self, item: Item, key: str = "", *, deadline: float | None = None) -> Outcome:
        """What a commit would say of the item. Raises as `commit` does."""
        item = dated(item, self._deadlines)
        return await self._checks.submit(
            item, key, size_bytes=weight_of(item), time_left_s=_time_left_s(deadline)
        )

    async def run(self) -> None:
        """Runs the lanes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lane.run())
            group.create_task(self._checks.run())

    async def heartbeat(self) -> None:
        """Publishes the head, so that a lost last message is noticed."""
        page = await self._store.changes_read(1 << 62, 1)
        self._head = max(self._head, page.head_revision)
        self._compacted = page.compacted_revision
        await self._bus.feed((), page.head_revision, compacted_revision=self._compacted)

    async def _round(self, items: Sequence[Item]) -> list[Outcome | Exception]:
        outcomes = await self._store.items_commit(items)
        records = [r for o in outcomes if isinstance(o, Committed) for r in o.records]
        if records:
            records.sort(key=lambda record: record.revision)
            self._head = max(self._head, records[-1].revision)
        self.memory.learn(items, outcomes, self._head)
        self.ended.update(_ended(items, outcomes))
        if records:
            await self._bus.feed(records, self._head, compacted_revision=self._compacted)
        return list(outcomes)

    async def _check_round(self, items: Sequence[Item]) -> list[Outcome | Exception]:
        # What is to be kept goes first, but may not keep a dry run waiting for ever.
        for _ in range(PAUSES_MAX):
            if not self._lane.waiting:
                break
            await asyncio.sleep(PAUSE_S)
        return list(await self._store.items_check(items))


def _time_left_s(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - asyncio.get_running_loop().time()


def _ended(items: Sequence[Item], outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(outcome, Committed):
            for operation in item.operations:
                if operation.finished:
                    reason = operation.fault.reason if operation.fault else ""
                    # A host may give any: what is counted by it must not grow without end.
                    known = reason if not reason or reason in REASONS else "OTHER"
                    yield operation.action.name, operation.state.name, known
