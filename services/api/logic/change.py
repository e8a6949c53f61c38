"""A change as watchers see it: the new version of a row, the one before it, and whom it concerns.

Owns what a filter makes of a change. Fields are read from the bodies at most once, and only if a
filter asks, whatever the number of watchers.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from services.api.logic.row import Row
from services.domain.condition import Condition, all_hold
from services.domain.kinds import ResourceKind

OVERHEAD_BYTES = 600

FieldsOf = Callable[[ResourceKind, bytes], Mapping[str, str]]


class Sight(Enum):
    """How a change looks through a filter. LEFT: the row matched before and does not now."""

    CHANGED = "changed"
    LEFT = "left"
    UNSEEN = "unseen"


class Change:
    """One change of the feed; shared by all who watch. `at_s` is when it came to this replica."""

    __slots__ = ("_before", "_fields_of", "_now", "at_s", "row", "size_bytes")

    def __init__(self, row: Row, fields_of: FieldsOf, at_s: float) -> None:
        self.row = row
        self.at_s = at_s
        self.size_bytes = OVERHEAD_BYTES + len(row.body)
        if row.before is not None:
            self.size_bytes += len(row.before.body)
        self._fields_of = fields_of
        self._now: Mapping[str, str] | None = None
        self._before: Mapping[str, str] | None = None

    def seen(self, conditions: Sequence[Condition]) -> Sight:
        """How it looks to one who watches what meets all the conditions."""
        if not conditions:
            return Sight.CHANGED
        if self._matches_now(conditions):
            return Sight.CHANGED
        if not self._matched_before(conditions):
            return Sight.UNSEEN
        # Gone is more than out of sight: the last version says so itself.
        return Sight.CHANGED if self.row.deleted else Sight.LEFT

    def _matches_now(self, conditions: Sequence[Condition]) -> bool:
        if self._now is None:
            self._now = self._fields_of(self.row.kind, self.row.body)
        return all_hold(conditions, self._now.get)

    def _matched_before(self, conditions: Sequence[Condition]) -> bool:
        before = self.row.before
        if before is None:
            return False
        if self._before is None:
            self._before = self._fields_of(self.row.kind, before.body)
        return all_hold(conditions, self._before.get)
