"""The feed follower: every change once, in order, whatever the bus does.

Owns the next revision. Early messages are parked for a moment, then the log is read by range; a
heartbeat that is ahead does the same. Does not keep history: who needs it reads the log. Source:
MECHANICS E2.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from services.runtime.log import logger

PARK_S = 0.020
RANGE_MAX = 500
# What is farther ahead is not kept but read when its turn comes: the log may be away for long.
PARKED_MAX = 10_000
RETRY_S = 0.2


class HasRevision(Protocol):
    """A change with its place in the one order."""

    @property
    def revision(self) -> int:
        """Its revision."""
        ...


Change = TypeVar("Change", bound=HasRevision)


class FeedFollower(Generic[Change]):
    """Calls `apply(changes)` with contiguous runs of changes, starting above `start_revision`.

    `read(after, limit)` answers (changes, head) from the log; changes may be fewer than asked for.
    """

    def __init__(
        self,
        read: Callable[[int, int], Awaitable[tuple[list[Change], int]]],
        apply: Callable[[list[Change]], None],
        *,
        start_revision: int,
    ) -> None:
        self._read = read
        self._apply = apply
        self._revision = start_revision
        self._head = start_revision
        self._parked: dict[int, Change] = {}
        self._behind = asyncio.Event()
        self._advanced = asyncio.Condition()

    @property
    def revision(self) -> int:
        """The newest revision that was applied."""
        return self._revision

    @property
    def parked(self) -> int:
        """How many changes came before their turn."""
        return len(self._parked)

    async def receive(self, changes: list[Change], head_revision: int) -> None:
        """Takes one message of the bus, early, late or repeated."""
        self._head = max(self._head, head_revision, *(c.revision for c in changes), 0)
        for change in changes:
            if 0 < change.revision - self._revision <= PARKED_MAX:
                self._parked[change.revision] = change
        await self._drain()
        if self._revision < self._head:
            self._behind.set()

    async def wait_for(self, revision: int) -> None:
        """Waits until all up to `revision` is applied, reading the log if the bus is late."""
        self._head = max(self._head, revision)
        if self._revision < self._head:
            self._behind.set()
        async with self._advanced:
            await self._advanced.wait_for(lambda: self._revision >= revision)

    async def run(self) -> None:
        """Fills gaps from the log until cancelled."""
        while True:
            await self._behind.wait()
            await asyncio.sleep(PARK_S)
            self._behind.clear()
            while self._revision < self._head:
                await self._fill()

    async def _fill(self) -> None:
        try:
            changes, head = await self._read(self._revision, RANGE_MAX)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever keeps the log from being read, it is read again
            logger().warning("change log not readable", error=repr(error))
            await asyncio.sleep(RETRY_S)
            return
        before = self._revision
        if not changes:
            # What was wanted may not be committed yet, or the log may not show its own head: look
            # again.
            self._head = max(head, self._revision)
        for change in changes:
            if 0 < change.revision - self._revision <= PARKED_MAX:
                self._parked[change.revision] = change
        await self._drain()
        if before == self._revision < self._head:
            await asyncio.sleep(RETRY_S)

    async def _drain(self) -> None:
        run: list[Change] = []
        while (change := self._parked.pop(self._revision + 1 + len(run), None)) is not None:
            run.append(change)
        if not run:
            return
        # In this order: what could not be applied is read again, not skipped.
        self._apply(run)
        self._revision += len(run)
        if self._parked:
            self._parked = {r: c for r, c in self._parked.items() if r > self._revision}
        async with self._advanced:
            self._advanced.notify_all()
