"""Keeps the hub at the head of the change log, by the bus while it speaks and by the log itself
while it does not.
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
    """One follower for the life of the process."""

    def __init__(self, conductor: Conductor, hub: Hub, clock: Clock) -> None:
        self._conductor = conductor
        self._hub = hub
        self._clock = clock
        self._follower: FeedFollower[Row] | None = None
        self._heard_s = 0.0
        self.begun = asyncio.Event()

    async def receive(self, changes: Changes) -> None:
        """Takes one message of the bus."""
        if self._follower is not None:
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
        """Follows until cancelled."""
        head = await self._first_head()
        self._hub.begin(head)
        self._follower = FeedFollower(
            self._conductor.changes_read, self._hub.apply, start_revision=head
        )
        self.begun.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follower.run())
            group.create_task(self._look_when_silent(self._follower))

    async def _first_head(self) -> int:
        while True:
            try:
                _, head = await self._conductor.changes_read(0, 1)
                return head
            except CloudError as error:
                logger().warning("waiting for the conductor", error=repr(error))
                await self._clock.sleep(LOOK_S)

    async def _look_when_silent(self, follower: FeedFollower[Row]) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            if self._clock.now_s() - self._heard_s < SILENCE_S:
                continue
            try:
                rows, head = await self._conductor.changes_read(follower.revision, READ_MAX)
            except CloudError as error:
                logger().warning("change log not readable", error=repr(error))
                continue
            await follower.receive(rows, head)
