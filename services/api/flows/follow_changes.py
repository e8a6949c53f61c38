"""The hub of changes: one ring shared by all watchers, and mailboxes for those who wait for one
row.

Owns how much is buffered and who is too slow. Watchers are cursors into the ring; one that the ring
has passed is cut off, never skipped. Does not own where changes come from: `flows.follow_feed`.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from services.api.logic.row import Row
from services.domain.errors import NoCapacity, Unavailable
from services.domain.kinds import ResourceKind

ROW_OVERHEAD_BYTES = 400
TAKEN_MAX = 256


class Hub:
    """Takes contiguous runs of changes and wakes whoever wants them."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._ring: dict[int, Row] = {}
        self._first = 0
        self._next = 0
        self._bytes = 0
        self._revision = 0
        self._closed = False
        self._era = 0
        self._advanced = asyncio.Event()
        self._mailboxes: dict[str, set[Mailbox]] = defaultdict(set)

    @property
    def revision(self) -> int:
        """The newest change that was taken in."""
        return self._revision

    def begin(self, revision: int) -> None:
        """Says up to where nothing will be told; who listens already would miss something."""
        self._revision = revision
        self._era += 1
        self._wake()

    def apply(self, changes: Sequence[Row]) -> None:
        """Takes the next changes in the order of their revisions."""
        for row in changes:
            self._revision = row.revision
            for mailbox in self._mailboxes.get(row.id, ()):
                mailbox.put(row)
            if row.kind is ResourceKind.INSTANCE:
                self._ring[self._next] = row
                self._next += 1
                self._bytes += len(row.body) + ROW_OVERHEAD_BYTES
        while self._bytes > self._bytes_max and self._ring:
            self._bytes -= len(self._ring.pop(self._first).body) + ROW_OVERHEAD_BYTES
            self._first += 1
        self._wake()

    def close(self) -> None:
        """Ends every watch and wait; their callers find another replica."""
        self._closed = True
        self._end_mailboxes(stopping())
        self._wake()

    def forget(self) -> None:
        """Ends every watch and wait, and lets new ones begin: another history comes."""
        self._era += 1
        self._ring.clear()
        self._first, self._bytes = self._next, 0
        self._end_mailboxes(history_changed())
        self._wake()

    def _end_mailboxes(self, why: Unavailable) -> None:
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close(why)

    def cursor(self) -> "Cursor":
        """A watcher that sees what comes from now on."""
        return Cursor(self, self._next, self._era)

    @contextlib.contextmanager
    def mailbox(self, row_id: str) -> Iterator["Mailbox"]:
        """Collects the changes of one row."""
        mailbox = Mailbox()
        if self._closed:
            mailbox.close(stopping())
        self._mailboxes[row_id].add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[row_id].discard(mailbox)
            if not self._mailboxes[row_id]:
                del self._mailboxes[row_id]

    async def advanced(self) -> None:
        """Waits for the next change, or for the end."""
        await self._advanced.wait()

    def check_open(self, era: int) -> None:
        """Raises Unavailable when the replica ends (API_STOPPING), or the history of `era` has
        (HISTORY_CHANGED).
        """
        if self._closed:
            raise stopping()
        if era != self._era:
            raise history_changed()

    def between(self, first: int, upto_revision: int | None) -> list[Row]:
        """The ring from place `first` on. Raises NoCapacity (WATCH_TOO_SLOW) if that is gone."""
        if first < self._first:
            raise NoCapacity(
                "WATCH_TOO_SLOW",
                "this watch reads too slowly for what is buffered; begin a new one",
                retry_after_s=1.0,
            )
        rows: list[Row] = []
        for place in range(first, min(self._next, first + TAKEN_MAX)):
            row = self._ring[place]
            if upto_revision is not None and row.revision > upto_revision:
                break
            rows.append(row)
        return rows

    def _wake(self) -> None:
        self._advanced.set()
        self._advanced = asyncio.Event()


class Cursor:
    """One watcher's place in the ring."""

    def __init__(self, hub: Hub, place: int, era: int) -> None:
        self._hub = hub
        self._place = place
        self._era = era

    def take(self, upto_revision: int | None = None) -> list[Row]:
        """The next changes, none if there are none yet. Raises NoCapacity (WATCH_TOO_SLOW),
        Unavailable (API_STOPPING, HISTORY_CHANGED).
        """
        self._hub.check_open(self._era)
        rows = self._hub.between(self._place, upto_revision)
        self._place += len(rows)
        return rows

    async def next(self) -> list[Row]:
        """Waits for the next changes. Raises NoCapacity (WATCH_TOO_SLOW), Unavailable
        (API_STOPPING, HISTORY_CHANGED).
        """
        while not (rows := self.take()):
            await self._hub.advanced()
        return rows


class Mailbox:
    """The newest change of one row since it was last taken."""

    def __init__(self) -> None:
        self._row: Row | None = None
        self._end: Unavailable | None = None
        self._filled = asyncio.Event()

    def put(self, row: Row) -> None:
        """Replaces what was not taken yet."""
        self._row = row
        self._filled.set()

    def close(self, why: Unavailable) -> None:
        """Wakes the one who waits, for good."""
        self._end = why
        self._filled.set()

    async def take(self) -> Row:
        """Waits for a change. Raises Unavailable (API_STOPPING, HISTORY_CHANGED)."""
        await self._filled.wait()
        if self._end is not None:
            raise self._end
        assert self._row is not None
        row, self._row = self._row, None
        self._filled.clear()
        return row


def history_changed() -> Unavailable:
    """Why a stream ends when the revisions that it has told of count no more."""
    return Unavailable(
        "HISTORY_CHANGED", "the cloud was set to another state; begin anew", retry_after_s=0.5
    )


def stopping() -> Unavailable:
    """Why a stream ends when its replica does."""
    return Unavailable("API_STOPPING", "this replica is ending; ask again", retry_after_s=0.5)
