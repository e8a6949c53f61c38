"""A conductor for the flows of api, in memory: rows of every revision, a change log that can be
cut, pages that end early.

Bodies are JSON, so that no message has to be made. Keeps every version for ever; only answers as if
older ones were gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.ports import Accepted, Changes, ImageDescription, Wish
from services.api.logic.caller import Caller
from services.api.logic.row import Before, Page, PageQuery, Row
from services.domain.condition import all_hold
from services.domain.errors import CloudError, OutOfRange
from services.domain.kinds import ListOrder, ResourceKind
from services.runtime.clock import RealClock


def fields_of(kind: ResourceKind, body: bytes) -> Mapping[str, str]:
    """The fields of a row of this conductor."""
    return dict(json.loads(body or b"{}"))


class Changelog:
    """Rows and their log. `examined_max` rows are looked at per page, `stretch_max` changes are
    read at once; one that leaks shows changes that are not all there any more.
    """

    def __init__(self) -> None:
        self.log: list[Row] = []
        self.compacted = 0
        self.history_id = "history-1"
        self.examined_max = 10_000
        self.stretch_max = 10_000
        self.leaks = False
        self.reads: list[int] = []
        self.pages_read = 0
        self.after_page: Callable[[], object] = int
        self._newest: dict[str, Row] = {}

    @property
    def head(self) -> int:
        """The newest revision."""
        return len(self.log)

    def put(
        self,
        row_id: str,
        fields: Mapping[str, str] | None = None,
        *,
        kind: ResourceKind = ResourceKind.INSTANCE,
        project_id: str = "p",
        deleted: bool = False,
    ) -> Row:
        """One commit: a new version of a row."""
        known = self._newest.get(row_id)
        body = json.dumps({"id": row_id, **(fields or {})}).encode()
        row = Row(
            kind,
            row_id,
            project_id,
            version=known.version + 1 if known else 1,
            revision=self.head + 1,
            epoch=0,
            body=body,
            deleted=deleted,
            before=Before(known.body, known.revision, known.epoch) if known else None,
        )
        self._newest[row_id] = row
        self.log.append(row)
        return row

    def restore(self, revision: int) -> None:
        """Another history begins above an earlier revision."""
        del self.log[revision:]
        self._newest = {row.id: row for row in self.log}
        self.history_id += "'"

    def state_at(self, revision: int) -> dict[str, Row]:
        """The living rows as they were at a commit."""
        rows = {row.id: row for row in self.log[:revision]}
        return {row.id: row for row in rows.values() if not row.deleted}

    async def row_read(self, caller: Caller, kind: ResourceKind, row_id: str) -> Row | None:
        """One row as of the newest commit."""
        row = self._newest.get(row_id.lower())
        return None if row is None or row.kind is not kind else replace(row, before=None)

    async def page_read(self, caller: Caller, query: PageQuery) -> Page:
        """Rows of one noun, true to the head or to the pinned revision."""
        self.pages_read += 1
        page = self._page(query)
        self.after_page()
        return page

    def _page(self, query: PageQuery) -> Page:
        revision = query.pinned_revision or self.head
        if revision < self.compacted:
            raise OutOfRange(
                "REVISION_COMPACTED",
                "the log was cut above that revision",
                metadata={"oldest_revision": str(self.compacted)},
            )
        rows = [r for r in self.state_at(revision).values() if r.kind is query.kind]
        rows = [r for r in rows if query.project_id in ("", r.project_id)]
        rows.sort(key=lambda r: self._place(query, r), reverse=query.descending)
        after = (query.after_key, query.after_id)
        if query.after_id and query.descending:
            rows = [r for r in rows if self._place(query, r) < after]
        elif query.after_id:
            rows = [r for r in rows if self._place(query, r) > after]
        found: list[Row] = []
        for count, row in enumerate(rows, 1):
            if all_hold(query.conditions, fields_of(row.kind, row.body).get):
                found.append(replace(row, before=None))
            if len(found) == query.limit or count == self.examined_max:
                key, last_id = self._place(query, row)
                return Page(tuple(found), revision, count < len(rows), last_id, key)
        return Page(tuple(found), revision, more=False)

    def _place(self, query: PageQuery, row: Row) -> tuple[str, str]:
        name = json.loads(row.body).get("name", "")
        return (name if query.order is ListOrder.NAME else "", row.id)

    async def changes_read(self, after_revision: int, limit: int) -> Changes:
        """The change log above a revision; nothing where it is compacted there."""
        self.reads.append(after_revision)
        end = after_revision + min(limit, self.stretch_max)
        rows: Sequence[Row] = self.log[after_revision:end]
        if after_revision < self.compacted and not self.leaks:
            rows = []
        return Changes(rows, self.head, self.history_id, self.compacted)

    async def wish_accept(self, caller: Caller, wish: Wish) -> Accepted:
        """Takes no wishes."""
        raise NotImplementedError

    async def batch_accept(
        self, caller: Caller, wishes: Sequence[Wish], fingerprint: bytes
    ) -> list[Accepted | CloudError]:
        """Takes no wishes."""
        raise NotImplementedError

    async def image_register(
        self, caller: Caller, description: ImageDescription, *, min_disk_gib: int
    ) -> Accepted:
        """Takes no images."""
        raise NotImplementedError


@asynccontextmanager
async def replica(changelog: Changelog, *, bytes_max: int = 1 << 20) -> AsyncIterator[Feed]:
    """What an api replica has of the feed, begun at the head. It hears of commits by `hear`."""
    feed = Feed(changelog, Hub(bytes_max=bytes_max, fields_of=fields_of), RealClock())
    running = asyncio.create_task(feed.run())
    try:
        await feed.begun.wait()
        yield feed
    finally:
        running.cancel()
        await asyncio.wait([running])


async def hear(feed: Feed, changelog: Changelog) -> None:
    """Tells a replica all that was committed, as the bus would."""
    rows = changelog.log[feed.hub.revision :]
    await feed.receive(Changes(rows, changelog.head, changelog.history_id, changelog.compacted))
