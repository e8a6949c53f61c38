"""Keeps the hub at the head of the change log, by the bus while it speaks and by the log itself
while it does not. Changes of two histories are never mixed.
"""

import asyncio

from services.api.flows.follow_changes import Hub
from services.api.flows.ports import Changes, Conductor
from services.api.logic.row import Row
from services.domain.errors import CloudError, Unavailable
from services.runtime.clock import Clock
from services.runtime.feed import FeedFollower
from services.runtime.log import logger

SILENCE_S = 1.5
LOOK_S = 0.5
READ_MAX = 500


class Feed:
    """One follower for the life of a history."""

    def __init__(self, conductor: Conductor, hub: Hub, clock: Clock) -> None:
        self._conductor = conductor
        self._hub = hub
        self._clock = clock
        self._follower: FeedFollower[Row] | None = None
        self._history_id = ""
        self._history_over = asyncio.Event()
        self._heard_s = 0.0
        self.begun = asyncio.Event()

    async def receive(self, changes: Changes) -> None:
        """Takes one message of the bus."""
        if self._follower is not None and self._is_ours(changes):
            self._heard_s = self._clock.now_s()
            await self._follower.receive(list(changes.rows), changes.head_revision)

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
        while True:
            await self._follow_history()
            logger().warning("the database has another history now", before=self._history_id)
            self.begun.clear()
            self._follower = None
            self._hub.forget()

    async def _follow_history(self) -> None:
        first = await self._first()
        self._history_id = first.history_id
        self._history_over.clear()
        self._hub.begin(first.head_revision)
        follower = self._follower = FeedFollower(
            self._read, self._hub.apply, start_revision=first.head_revision
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
        return not self._history_over.is_set()

    async def _read(self, after_revision: int, limit: int) -> tuple[list[Row], int]:
        changes = await self._conductor.changes_read(after_revision, limit)
        if not self._is_ours(changes):
            raise Unavailable("HISTORY_CHANGED", "the change log begins anew")
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
