"""Follow the fleet: load every host, then apply the feed for ever; load again when the feed cannot
be followed.

Owns when the fleet counts as loaded. Does not own the order of changes (the follower) or their
meaning (logic.changes). The load is pages, each true at a revision of its own: the feed is followed
from the first page's, and rows of later pages, which are newer than the feed's next changes, are
kept by their revision.
"""

import asyncio
from collections.abc import Callable

from services.domain.errors import CloudError
from services.runtime.clock import Clock
from services.runtime.feed import FeedFollower
from services.runtime.log import logger
from services.scheduler.flows.ports import ChangeBatch, Rows
from services.scheduler.logic.changes import Change, apply
from services.scheduler.logic.fleet import Fleet, HostRow

RETRY_S = 0.5
PAGES_MAX = 10_000


class FeedBroken(Exception):
    """The feed does not go on from where the fleet stands: the log was compacted, or it is another
    history.
    """


class FleetFollowing:
    """Keeps one fleet true. `loaded` is set once it is, for good."""

    def __init__(self, fleet: Fleet, rows: Rows, *, clock: Clock) -> None:
        self._fleet = fleet
        self._rows = rows
        self._clock = clock
        self._advanced: Callable[[], None] | None = None
        self._follower: FeedFollower[Change] | None = None
        self._history_id = ""
        self._broken = asyncio.Event()
        self.loaded = asyncio.Event()

    async def run(self, advanced: Callable[[], None]) -> None:
        """Loads and follows until cancelled; calls `advanced` after every change of the fleet."""
        self._advanced = advanced
        while True:
            try:
                newest = await self._load()
                await self._follow(newest)
            except (CloudError, FeedBroken) as error:
                logger().warning("fleet not followed, loading it again", error=repr(error))
                await self._clock.sleep(RETRY_S)

    async def receive(self, batch: ChangeBatch) -> None:
        """Takes one message of the bus; before the load there is nothing to do with it."""
        if self._follower is not None and self._is_same_history(batch):
            await self._follower.receive(batch.changes, batch.head_revision)

    async def wait_for(self, revision: int) -> None:
        """Waits until the fleet shows `revision`. Has no deadline."""
        await self.loaded.wait()
        assert self._follower is not None
        await self._follower.wait_for(revision)

    async def _load(self) -> int:
        """Fills the fleet; gives the revision of the newest page."""
        rows: list[HostRow] = []
        revisions: list[int] = []
        after_id = ""
        for _ in range(PAGES_MAX):
            page = await self._rows.host_page(after_id)
            rows += page.hosts
            revisions.append(page.revision)
            if not page.more or not page.hosts:
                break
            after_id = page.hosts[-1].id
        self._fleet.host_replace_all(rows, revisions[0])
        self._history_id = ""
        self._broken.clear()
        self._follower = FeedFollower(self._read, self._apply, start_revision=revisions[0])
        return revisions[-1]

    async def _follow(self, newest: int) -> None:
        assert self._follower is not None
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._follower.run()),
                group.create_task(self._announce(self._follower, newest)),
            ]
            await self._broken.wait()
            for task in tasks:
                task.cancel()
        raise FeedBroken("the feed does not go on from where the fleet stands")

    async def _announce(self, follower: FeedFollower[Change], newest: int) -> None:
        # A host that vanished between two pages stays in the fleet until the feed has passed the
        # last page.
        await follower.wait_for(newest)
        self.loaded.set()
        logger().info("fleet loaded", hosts=len(self._fleet), revision=self._fleet.revision)

    async def _read(self, after_revision: int, limit: int) -> tuple[list[Change], int]:
        batch = await self._rows.change_range(after_revision, limit)
        compacted = not batch.changes and batch.head_revision > after_revision
        gap = compacted or (batch.changes and batch.changes[0].revision != after_revision + 1)
        if gap or not self._is_same_history(batch):
            self._broken.set()
            raise FeedBroken(f"the log does not go on from revision {after_revision}")
        return batch.changes, batch.head_revision

    def _is_same_history(self, batch: ChangeBatch) -> bool:
        """Whether the batch belongs to what was loaded; if not, it is loaded again."""
        same = batch.history_id == (self._history_id or batch.history_id)
        if not same:
            self._broken.set()
        self._history_id = self._history_id or batch.history_id
        return same

    def _apply(self, changes: list[Change]) -> None:
        apply(self._fleet, changes)
        if self._advanced is not None:
            self._advanced()
