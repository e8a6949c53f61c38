"""The newest changes, all of them and in order, up to a number of bytes.

Owns what is forgotten first: the oldest. Any revision is found in one step.
"""

from services.api.logic.change import Change
from services.api.logic.row import Row
from services.domain.kinds import ResourceKind

SCAN_MAX = 4096
TAKEN_MAX = 256
TAKEN_BYTES_MAX = 256 * 1024

# The rows of one noun, of one project or, if empty, of all.
Key = tuple[ResourceKind, str]


class Ring:
    """Holds every change in (`forgotten`, `revision`]."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._changes: dict[int, Change] = {}
        self.forgotten = 0
        self.revision = 0

    def begin(self, revision: int) -> None:
        """Holds nothing; the next change is the one above `revision`."""
        self._changes.clear()
        self._bytes = 0
        self.forgotten = self.revision = revision

    def append(self, change: Change) -> None:
        """Takes the change above `revision`."""
        assert change.row.revision == self.revision + 1
        self.revision += 1
        self._changes[self.revision] = change
        self._bytes += change.size_bytes
        while self._bytes > self._bytes_max and self.forgotten < self.revision - 1:
            self.forgotten += 1
            self._bytes -= self._changes.pop(self.forgotten).size_bytes

    def after(self, revision: int) -> Change | None:
        """The change above a revision that is held or the newest."""
        return self._changes.get(revision + 1)

    def some_after(self, revision: int, key: Key) -> tuple[list[Change], int]:
        """Changes of `key` above `revision`, which is not forgotten, and up to where they are all.

        A bounded number, and of a bounded size but for the last.
        """
        taken: list[Change] = []
        size_bytes = 0
        end = min(self.revision, revision + SCAN_MAX)
        while revision < end and len(taken) < TAKEN_MAX and size_bytes < TAKEN_BYTES_MAX:
            revision += 1
            change = self._changes[revision]
            if concerns(change.row, key):
                taken.append(change)
                size_bytes += change.size_bytes
        return taken, revision


def concerns(row: Row, key: Key) -> bool:
    """Whether a row is one of those that the key means."""
    kind, project_id = key
    return row.kind is kind and project_id in ("", row.project_id)
