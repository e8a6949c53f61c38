"""What a watcher and a waiter hold of the hub: a place in the ring, and a mailbox for one row.

Owns how they sleep, and that one who sleeps has seen all there is for it. Does not own the ring.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from services.api.logic.change import Change
from services.api.logic.ring import Key, Ring
from services.api.logic.row import Row
from services.domain.errors import CloudError, NoCapacity, Unavailable

KEPT_MAX = 256

Sleepers = dict[Key, set["Cursor"]]
# Made anew for each who is told: an error carries what is its receiver's alone.
Why = Callable[[], CloudError]


class Cursor:
    """One watcher's place: `position` is the revision up to which it has taken all that is its."""

    def __init__(self, ring: Ring, key: Key, position: int, sleepers: Sleepers) -> None:
        self.key = key
        self.position = position
        self._ring = ring
        self._sleepers = sleepers
        self._joined = False
        self._asleep = False
        self._woken = asyncio.Event()
        self._end: Why | None = None

    @property
    def lag_revisions(self) -> int:
        """How many changes were made since its place; none are its own while it sleeps."""
        return 0 if self._asleep else self._ring.revision - self.position

    def check(self) -> None:
        """Raises Unavailable when the replica ends (API_STOPPING), or the history does
        (HISTORY_CHANGED).
        """
        if self._end is not None:
            raise self._end()

    def take(self) -> list[Change] | None:
        """The next changes, none if there are none yet; None where the log must be read first.

        Raises NoCapacity (WATCH_TOO_SLOW), Unavailable (API_STOPPING, HISTORY_CHANGED).
        """
        self.check()
        if self.position < self._ring.forgotten:
            if self._joined:
                raise too_slow()
            return None
        self._joined = True
        changes, self.position = self._ring.some_after(self.position, self.key)
        return changes

    async def sleep(self) -> None:
        """Waits for the next change that may be its own, or for the end."""
        if self._end is not None or self.position < self._ring.revision:
            return
        self._woken.clear()
        self._asleep = True
        self._sleepers.setdefault(self.key, set()).add(self)
        try:
            await self._woken.wait()
        finally:
            self._rise()

    def _rise(self) -> None:
        if not self._asleep:
            return
        self._asleep = False
        beside = self._sleepers[self.key]
        beside.discard(self)
        if not beside:
            del self._sleepers[self.key]
        self.position = max(self.position, self._ring.revision)

    def wake(self, position: int) -> None:
        """Something of its own happened above `position`, for the first time since it slept."""
        self._asleep = False
        self.position = max(self.position, position)
        self._woken.set()

    def end(self, why: Why) -> None:
        """Ends it, awake or asleep."""
        self._end = self._end or why
        self._woken.set()


class Mailbox:
    """The changes of one row since it was last taken from, in order."""

    def __init__(self) -> None:
        self._rows: deque[Row] = deque()
        self._end: Why | None = None
        self._filled = asyncio.Event()

    def put(self, row: Row) -> None:
        """Keeps it for the one who takes. Of too many no more is kept: the taker hears the end
        after those that are there, so what it takes has no gap.
        """
        if self._end is not None:
            return
        if len(self._rows) == KEPT_MAX:
            self.close(too_slow_for_one)
            return
        self._rows.append(row)
        self._filled.set()

    def close(self, why: Why) -> None:
        """Wakes the one who waits, for good."""
        self._end = self._end or why
        self._filled.set()

    async def take(self) -> Row:
        """Waits for a change. Raises Unavailable (API_STOPPING, HISTORY_CHANGED), NoCapacity
        (WATCH_TOO_SLOW).
        """
        await self._filled.wait()
        if self._rows:
            row = self._rows.popleft()
            if not self._rows and self._end is None:
                self._filled.clear()
            return row
        assert self._end is not None
        raise self._end()


def too_slow() -> NoCapacity:
    """Why a stream ends whose reader is behind what is buffered for it."""
    return NoCapacity(
        "WATCH_TOO_SLOW",
        "this watch reads too slowly for what is buffered; go on with its resume token",
        retry_after_s=1.0,
    )


def too_many() -> NoCapacity:
    """Why one more watch is not begun."""
    return NoCapacity(
        "TOO_MANY_WATCHES",
        "this project has as many open watches or waits here as one may have; end some",
        retry_after_s=5.0,
    )


def too_slow_for_one() -> NoCapacity:
    """Why one who follows a single row is let go: there is no token, the row says all."""
    return NoCapacity(
        "WATCH_TOO_SLOW",
        "this call reads too slowly for what is buffered for it; ask again",
        retry_after_s=1.0,
    )


def history_changed() -> Unavailable:
    """Why a stream ends when the revisions that it has told of count no more."""
    return Unavailable(
        "HISTORY_CHANGED", "the cloud was set to another state; begin anew", retry_after_s=0.5
    )


def stopping() -> Unavailable:
    """Why a stream ends when its replica does."""
    return Unavailable("API_STOPPING", "this replica is ending; ask again", retry_after_s=0.5)
