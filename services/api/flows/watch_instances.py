"""Watches instances: a snapshot that is true to one revision, then every change above it, in order.

The pages of the snapshot are read at revisions that may differ. The hub's cursor is taken before
the first page, so it holds every change that a page could have missed: laying the changes up to the
last page's revision over the rows gives the state at exactly that revision, and each instance's
versions go on from there without a gap.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.api.flows.follow_changes import Cursor, Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.list_rows import READ_ROWS_MAX, project_of
from services.api.flows.ports import Conductor
from services.api.logic.caller import Caller
from services.api.logic.row import PageQuery, Row, is_visible
from services.domain.errors import Unavailable
from services.domain.kinds import ResourceKind

FEED_S = 5.0


@dataclass(frozen=True, slots=True)
class Existing:
    """One living instance of the snapshot."""

    row: Row
    revision: int


@dataclass(frozen=True, slots=True)
class SnapshotDone:
    """The snapshot is complete and true to `revision`."""

    count: int
    revision: int


@dataclass(frozen=True, slots=True)
class Changed:
    """One new version."""

    row: Row


WatchEvent = Existing | SnapshotDone | Changed


async def watch_instances(
    conductor: Conductor, hub: Hub, feed: Feed, caller: Caller, *, all_projects: bool
) -> AsyncIterator[WatchEvent]:
    """Events until the caller goes. Raises Denied, NoCapacity (WATCH_TOO_SLOW), Unavailable."""
    project_id = project_of(caller, ResourceKind.INSTANCE, all_projects=all_projects)
    await feed.catch_up(0, FEED_S)
    cursor = hub.cursor()
    begun_at = hub.revision
    rows, revision = await _read_all(conductor, caller, project_id)
    if revision < begun_at:
        raise Unavailable("PEER_UNREACHABLE", "the conductor answered from an older state")
    await feed.catch_up(revision, FEED_S)
    _overlay(rows, cursor, revision, project_id)
    count = len(rows)
    for row_id in sorted(rows):
        yield Existing(rows.pop(row_id), revision)
    yield SnapshotDone(count, revision)
    while True:
        for row in await cursor.next():
            if row.revision > revision and _is_meant(row, caller, project_id):
                yield Changed(row)


async def _read_all(
    conductor: Conductor, caller: Caller, project_id: str
) -> tuple[dict[str, Row], int]:
    rows: dict[str, Row] = {}
    after_id, revision = "", 0
    while True:
        page = await conductor.page_read(
            caller, PageQuery(ResourceKind.INSTANCE, project_id, after_id, READ_ROWS_MAX, {})
        )
        revision = max(revision, page.revision)
        rows.update(
            (row.id, row)
            for row in page.rows
            if not row.deleted and _is_meant(row, caller, project_id)
        )
        if not page.more or not page.rows:
            return rows, revision
        after_id = page.rows[-1].id


def _overlay(rows: dict[str, Row], cursor: Cursor, revision: int, project_id: str) -> None:
    while changes := cursor.take(revision):
        for row in changes:
            if project_id not in ("", row.project_id):
                continue
            known = rows.get(row.id)
            if row.deleted:
                rows.pop(row.id, None)
            elif known is None or row.revision > known.revision:
                rows[row.id] = row


def _is_meant(row: Row, caller: Caller, project_id: str) -> bool:
    return project_id in ("", row.project_id) and is_visible(row, caller)
