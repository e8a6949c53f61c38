"""The hub of changes: one ring shared by all watchers, and mailboxes for those who wait for one
row.

Owns who is woken by what, and who is too slow: a watcher that the ring has passed is cut off, never
skipped. Does not own where changes come from: `flows.follow_feed`.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from services.api.flows.share import Shares
from services.api.flows.take_changes import (
    Cursor,
    Mailbox,
    Sleepers,
    Why,
    history_changed,
    stopping,
    too_many,
)
from services.api.logic.change import Change, FieldsOf
from services.api.logic.ring import Key, Ring
from services.api.logic.row import Row
from services.domain.kinds import ResourceKind
from services.runtime.clock import Clock, RealClock

# Each may hold a stretch of changes that its reader does not take.
WATCHES_MAX = 256
WATCHES_OF_ALL_MAX = 4096
# Of a single operation: a mailbox holds little.
WAITS_MAX = 1024
WAITS_OF_ALL_MAX = 8192


class Hub:
    """Takes contiguous runs of changes and wakes whoever wants them.

    `bytes_max` bounds what is kept; `fields_of` reads what filters ask about from a body.
    """

    def __init__(self, *, bytes_max: int, fields_of: FieldsOf, clock: Clock | None = None) -> None:
        self._fields_of = fields_of
        self._clock = clock or RealClock()
        self._ring = Ring(bytes_max=bytes_max)
        self._sleepers: Sleepers = {}
        self._cursors: set[Cursor] = set()
        self._watches = Shares(WATCHES_MAX, WATCHES_OF_ALL_MAX, too_many)
        self._waits = Shares(WAITS_MAX, WAITS_OF_ALL_MAX, too_many)
        self._mailboxes: dict[tuple[ResourceKind, str], set[Mailbox]] = defaultdict(set)
        self._closed = False
        self.history_id = ""

    @property
    def revision(self) -> int:
        """The newest change that was taken in."""
        return self._ring.revision

    @property
    def forgotten(self) -> int:
        """The newest change that is not kept here any more."""
        return self._ring.forgotten

    def begin(self, revision: int, history_id: str = "") -> None:
        """Says up to where nothing will be told; who listens already would miss something."""
        self._end_all(history_changed)
        self.history_id = history_id
        self._ring.begin(revision)

    def change_of(self, row: Row) -> Change:
        """A change to be shared by all who watch."""
        return Change(row, self._fields_of, self._clock.now_s())

    def apply(self, changes: Sequence[Row]) -> None:
        """Takes the next changes in the order of their revisions."""
        touched: dict[Key, int] = {}
        for row in changes:
            self._ring.append(self.change_of(row))
            for mailbox in self._mailboxes.get((row.kind, row.id), ()):
                mailbox.put(row)
            touched.setdefault((row.kind, row.project_id), row.revision)
            touched.setdefault((row.kind, ""), row.revision)
        for key, first in touched.items():
            for cursor in self._sleepers.pop(key, ()):
                cursor.wake(first - 1)

    def close(self) -> None:
        """Ends every watch and wait; their callers find another replica."""
        self._closed = True
        self._end_all(stopping)

    def forget(self) -> None:
        """Ends every watch and wait, and lets new ones begin: another history comes."""
        self._end_all(history_changed)
        self._ring.begin(self._ring.revision)

    def _end_all(self, why: Why) -> None:
        for cursor in self._cursors:
            cursor.end(why)
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close(why)

    @contextlib.contextmanager
    def cursor(self, key: Key, position: int, owner: str = "") -> Iterator[Cursor]:
        """A watcher of `key` that has seen all up to `position`, which the hub has reached. Raises
        NoCapacity (TOO_MANY_WATCHES) where its owner, a project, has WATCHES_MAX,
        or all together have WATCHES_OF_ALL_MAX.
        """
        with self._watches.one(owner):
            cursor = Cursor(self._ring, key, position, self._sleepers)
            if self._closed:
                cursor.end(stopping)
            self._cursors.add(cursor)
            try:
                yield cursor
            finally:
                self._cursors.discard(cursor)

    @contextlib.contextmanager
    def mailbox(self, kind: ResourceKind, row_id: str, owner: str = "") -> Iterator[Mailbox]:
        """Collects the changes of one row. Raises NoCapacity (TOO_MANY_WATCHES) where its owner has
        WAITS_MAX, or all together have WAITS_OF_ALL_MAX.
        """
        with self._waits.one(owner):
            mailbox = Mailbox()
            if self._closed:
                mailbox.close(stopping)
            beside = self._mailboxes[kind, row_id]
            beside.add(mailbox)
            try:
                yield mailbox
            finally:
                beside.discard(mailbox)
                if not beside:
                    self._mailboxes.pop((kind, row_id), None)

    def watchers(self) -> Mapping[ResourceKind, int]:
        """How many watch, by noun."""
        return Counter(cursor.key[0] for cursor in self._cursors)

    def lag_revisions(self) -> int:
        """How far the slowest watcher is behind."""
        return max((cursor.lag_revisions for cursor in self._cursors), default=0)

    def lag_s(self) -> float:
        """How long the oldest change waits that a watcher has not taken, at least."""
        behind = self.lag_revisions()
        if behind == 0:
            return 0.0
        oldest = self._ring.after(max(self.revision - behind, self.forgotten))
        return self._clock.now_s() - oldest.at_s if oldest is not None else 0.0
