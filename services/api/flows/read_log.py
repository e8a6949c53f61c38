"""Reads the change log for watchers that go on from before what the hub keeps.

Owns that many who come back at once cost few reads: the log is read in blocks that begin at fixed
revisions, one after another, and the last ones are kept for whoever comes next.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from services.api.flows.ports import Changes
from services.api.flows.take_changes import history_changed
from services.api.logic.change import Change
from services.api.logic.row import Row
from services.domain.errors import CloudError, OutOfRange, Unavailable
from services.runtime.lane import Lane

BLOCK = 256
ROUND_MAX = 8
KEPT_BYTES_MAX = 8 * 1024 * 1024


class LogReader:
    """Reads stretches of the log above a revision.

    `read(after, limit)` gives a stretch, maybe a shorter one, of the history that is followed.
    """

    def __init__(
        self,
        read: Callable[[int, int], Awaitable[Changes]],
        change_of: Callable[[Row], Change],
    ) -> None:
        self._read = read
        self._change_of = change_of
        self._blocks: OrderedDict[int, list[Change]] = OrderedDict()
        self._bytes = 0
        self._era = 0
        self._lane: Lane[int, list[Change]] = Lane(
            self._round, name="log for watches", items_max=ROUND_MAX
        )

    async def run(self) -> None:
        """Serves until cancelled."""
        await self._lane.run()

    def forget(self) -> None:
        """Drops what was kept: it is of another history."""
        self._blocks.clear()
        self._bytes = 0
        self._era += 1

    async def after(self, revision: int) -> list[Change]:
        """The next changes above a revision that has some, without a gap.

        Raises OutOfRange (REVISION_COMPACTED), Unavailable.
        """
        return await self._lane.submit(revision)

    async def _round(self, revisions: Sequence[int]) -> list[list[Change] | Exception]:
        return [await self._one(revision) for revision in revisions]

    async def _one(self, revision: int) -> list[Change] | Exception:
        try:
            return await self._stretch(revision)
        except CloudError as error:
            return error

    async def _stretch(self, revision: int) -> list[Change]:
        start = revision // BLOCK * BLOCK
        found = _follows(revision, await self._block(start, revision))
        if found:
            return found
        # The block is cut at its beginning.
        changes = await self._read(revision, BLOCK)
        if changes.compacted_revision > revision:
            raise compacted(changes.compacted_revision)
        found = _follows(revision, [self._change_of(row) for row in changes.rows])
        if not found:
            raise Unavailable("PEER_UNREACHABLE", "the change log does not show what it holds")
        return found

    async def _block(self, start: int, revision: int) -> list[Change]:
        """The block as far as it goes above a revision, read on where it ended when it was kept."""
        era = self._era
        block = self._blocks.pop(start, [])
        self._bytes -= _size_bytes(block)
        while start + len(block) <= revision:
            end = start + len(block)
            changes = await self._read(end, BLOCK - len(block))
            if era != self._era:
                raise history_changed()
            more = _follows(end, [self._change_of(row) for row in changes.rows])
            if not more or changes.compacted_revision > end:
                break
            block = block + more
        if block:
            self._blocks[start] = block
            self._bytes += _size_bytes(block)
        while self._bytes > KEPT_BYTES_MAX and len(self._blocks) > 1:
            self._bytes -= _size_bytes(self._blocks.popitem(last=False)[1])
        return block


def _size_bytes(changes: Sequence[Change]) -> int:
    return sum(change.size_bytes for change in changes)


def _follows(revision: int, changes: Sequence[Change]) -> list[Change]:
    """Those above a revision, up to where one is missing."""
    found: list[Change] = []
    for change in changes:
        if change.row.revision == revision + len(found) + 1:
            found.append(change)
    return found


def compacted(oldest_revision: int) -> OutOfRange:
    """Why a token leads nowhere any more."""
    return OutOfRange(
        "REVISION_COMPACTED",
        f"changes are kept above revision {oldest_revision} only; begin with a snapshot",
        metadata={"oldest_revision": str(oldest_revision)},
    )
