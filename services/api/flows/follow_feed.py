"""Keeps the hub at the head of the change log, by the bus while it speaks and by the log itself
while it does not. Changes of two histories are never mixed, and none is passed over: where the log
was cut above what the hub has, it begins anew at the head.
"""

import asyncio

from services.api.flows.follow_changes import Hub
from services.api.flows.ports import Changes, Conductor
from services.api.flows.read_log import LogReader
from services.api.flows.take_changes import history_changed
from services.api.logic.row import Row
from services.domain.errors import CloudError, Unavailable
from services.runtime.clock import Clock
from services.runtime.feed import FeedFollower
from services.runtime.log import logger

SILENCE_S = 1.5
LOOK_S = 0.5
READ_MAX = 500
FEED_S = 5.0


class Feed:
    """One follower for the life of a history, and the reader of what the hub has forgotten."""

    def __init__(self, conductor: Conductor, hub: Hub, clock: Clock) -> None:
        self.hub = hub
        self.log = LogReader(self._read_past, hub.change_of)
        self._conductor = conductor
        self._clock = clock
        self._follower: FeedFollower[Row] | None = None
        self._history_id = ""
        self._history_over = asyncio.Event()
        self._heard_s = 0.0
        self._head = 0
        self._compacted = 0
        self.begun = asyncio.Event()

    @property
    def oldest_revision(self) -> int:
        """The oldest revision after which a watch can go on."""
        return min(self._compacted, self.hub.forgotten)

    def lag_revisions(self) -> int:
        """How far the hub is behind the newest commit that it has heard of."""
        return max(0, self._head - self.hub.revision)

    async def receive(self, changes: Changes) -> None:
        """Takes one message of the bus."""
        if self._follower is not None and self._is_ours(changes):
            self._heard_s = self._clock.now_s()
            await self._follower.receive(list(changes.rows), changes.head_revision)

    async def until_history_over(self) -> None:
        """Waits until what is followed now, if anything is, turns out to be of an old history."""
        await self._history_over.wait()

    async def catch_up(self, revision: int, timeout_s: float) -> None:
        """Waits until the hub has all up to `revision`. Raises Unavailable (PEER_UNREACHABLE)."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.begun.wait()
                if self._follower is not None:
                    await self._follower.wait_for(revision)
        except TimeoutError:
            raise Unavailable("PEER_UNREACHABLE", "the change log cannot be followed now") from None

    async def run(self) -> None:
        """Follows until cancelled; where another history begins, ends what saw the old one."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.log.run())
            while True:
                await self._follow_history()
                logger().warning("the change log does not go on", history=self._history_id)
                self.begun.clear()
                self._follower = None
                self.hub.forget()
                self.log.forget()

    async def _follow_history(self) -> None:
        first = await self._first()
        self._history_id = first.history_id
        if self._history_over.is_set():
            # Another one: whoever waits for the end of the one before hears of it, however late.
            self._history_over = asyncio.Event()
        self._head = self._compacted = 0
        self._note(first)
        self.hub.begin(first.head_revision, first.history_id)
        follower = self._follower = FeedFollower(
            self._read, self.hub.apply, start_revision=first.head_revision
        )
        self.begun.set()
        async with asyncio.TaskGroup() as group:
            works = [
                group.create_task(follower.run()),
                group.create_task(self._look_when_silent(follower)),
            ]
            await self._history_over.wait()
            for work in works:
                work.cancel()

    def _is_ours(self, changes: Changes) -> bool:
        if changes.history_id != self._history_id:
            self._history_over.set()
        if self._history_over.is_set():
            return False
        self._note(changes)
        return True

    def _note(self, changes: Changes) -> None:
        self._head = max(self._head, changes.head_revision)
        self._compacted = max(self._compacted, changes.compacted_revision)

    async def _read_past(self, after_revision: int, limit: int) -> Changes:
        changes = await self._conductor.changes_read(after_revision, limit)
        if changes.history_id != self._history_id:
            raise history_changed()
        return changes

    async def _read(self, after_revision: int, limit: int) -> tuple[list[Row], int]:
        changes = await self._conductor.changes_read(after_revision, limit)
        if not self._is_ours(changes):
            raise history_changed()
        if changes.compacted_revision > after_revision:
            self._history_over.set()
            raise history_changed()
        return list(changes.rows), changes.head_revision

    async def _first(self) -> Changes:
        while True:
            try:
                return await self._conductor.changes_read(0, 1)
            except CloudError as error:
                logger().warning("waiting for the conductor", error=repr(error))
                await self._clock.sleep(LOOK_S)

    async def _look_when_silent(self, follower: FeedFollower[Row]) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            if self._clock.now_s() - self._heard_s < SILENCE_S:
                continue
            try:
                rows, head = await self._read(follower.revision, READ_MAX)
            except CloudError as error:
                logger().warning("change log not readable", error=repr(error))
                continue
            await follower.receive(rows, head)
