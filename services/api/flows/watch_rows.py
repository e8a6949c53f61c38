"""Watches the rows of one noun: a snapshot that is true to one revision, then every change above
it, in order; a resume token goes on after the last one, at any replica.

Owns what a watch sees, how many events it is told at once, when it is told that nothing happened,
and how it ends. What the hub keeps is taken from there; what it has forgotten, from the log.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from services.api.flows.follow_feed import FEED_S, Feed
from services.api.flows.list_rows import (
    READ_ROWS_MAX,
    conditions_of,
    project_of,
    watch_binding,
)
from services.api.flows.ports import Conductor
from services.api.flows.read_log import compacted
from services.api.flows.take_changes import Cursor
from services.api.logic.caller import Caller
from services.api.logic.change import OVERHEAD_BYTES, Change, Sight
from services.api.logic.filter import text_of
from services.api.logic.ring import concerns
from services.api.logic.row import PageQuery, Row, is_visible
from services.api.logic.runs import runs
from services.api.logic.seal import Place, seal, unseal
from services.domain.condition import Condition
from services.domain.errors import CloudError, Invalid, OutOfRange, Unauthenticated
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationState, shown_to

BOOKMARK_S = 30.0


@dataclass(frozen=True, slots=True)
class WatchAsk:
    """What a watch asks for. `bookmark_s` is the silence after which a bookmark is sent; `recheck`
    raises where the caller may watch no more, and is called as often, silence or not. `events_max`
    is how many events may come at once.
    """

    kind: ResourceKind
    filter: str = ""
    resume_token: str = ""
    all_projects: bool = False
    bookmark_s: float = BOOKMARK_S
    recheck: Callable[[], None] | None = None
    events_max: int = 1


@dataclass(frozen=True, slots=True)
class Existing:
    """One row of the snapshot; the token is empty."""

    row: Row
    revision: int
    resume_token: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotDone:
    """The snapshot is complete and true to `revision`."""

    count: int
    revision: int
    resume_token: str


@dataclass(frozen=True, slots=True)
class Changed:
    """One new version; within a run only the last event has a token."""

    row: Row
    revision: int
    resume_token: str


@dataclass(frozen=True, slots=True)
class Left:
    """The version by which a row does not match the filter any more; its token as for Changed."""

    row: Row
    revision: int
    resume_token: str


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing more to show up to `revision`."""

    revision: int
    resume_token: str


WatchEvent = Existing | SnapshotDone | Changed | Left | Bookmark
Run = Sequence[WatchEvent]


async def watch_rows(
    conductor: Conductor, feed: Feed, caller: Caller, ask: WatchAsk, *, page_key: bytes
) -> AsyncGenerator[Run, None]:
    """Events until the caller goes, in runs of what is there at once.

    Raises Denied (ROLE_MISSING), Invalid (FILTER_INVALID, RESUME_TOKEN_INVALID), OutOfRange
    (REVISION_COMPACTED), NoCapacity (TOO_MANY_WATCHES, WATCH_TOO_SLOW),
    Unauthenticated (TOKEN_EXPIRED), Unavailable
    (API_STOPPING, PEER_UNREACHABLE). After the snapshot each has the metadata `resume_token`.
    """
    watch = _Watch(feed, caller, ask, page_key=page_key)
    await feed.catch_up(0, FEED_S)
    try:
        with feed.hub.cursor(watch.key, feed.hub.revision, caller.project_id) as cursor:
            watch.history_id = feed.hub.history_id
            if ask.resume_token:
                await watch.resume(cursor)
            else:
                async with contextlib.aclosing(watch.snapshot(conductor, cursor)) as existing:
                    async for run in existing:
                        yield run
            async with contextlib.aclosing(watch.follow(cursor)) as changes:
                async for run in changes:
                    yield run
    except CloudError as error:
        raise watch.ended_by(error) from error


_Seen = tuple[type[Changed] | type[Left], Row]


class _Watch:
    """One watch. `revision` is up to where its caller was told everything, -1 before that."""

    def __init__(self, feed: Feed, caller: Caller, ask: WatchAsk, *, page_key: bytes) -> None:
        project_id = project_of(caller, ask.kind, all_projects=ask.all_projects)
        self.key = (ask.kind, project_id)
        self.history_id = ""
        self.revision = -1
        self._feed = feed
        self._caller = caller
        self._ask = ask
        self._page_key = page_key
        self._checked_s = asyncio.get_running_loop().time()
        asked = conditions_of(caller, ask.kind, ask.filter)
        self._conditions = (*asked, *_shown(caller, ask.kind))
        self._bound_to = watch_binding(caller, ask.kind, project_id, text_of(asked, ask.kind))

    @property
    def _token(self) -> str:
        return seal(self._page_key, Place(self.history_id, self.revision), self._bound_to)

    async def resume(self, cursor: Cursor) -> None:
        """Goes to the place that the caller's token names."""
        opened = unseal(self._page_key, self._ask.resume_token, self._bound_to)
        if opened is None:
            raise Invalid(
                "RESUME_TOKEN_INVALID",
                "this token is not of this watch: the same noun, filter, project and caller",
                field="resume_token",
            )
        if not opened.is_of(self.history_id):
            raise compacted(self._feed.oldest_revision)
        self.revision = opened.revision
        await self._begin(cursor)

    async def snapshot(self, conductor: Conductor, cursor: Cursor) -> AsyncGenerator[Run, None]:
        """What is there, read in pages as fast as the caller takes it."""
        kind, project_id = self.key
        query = PageQuery(kind, project_id, READ_ROWS_MAX, (*self._conditions, *_present(kind)))
        count = 0
        while True:
            page = await conductor.page_read(self._caller, query)
            shown = [r for r in page.rows if not r.deleted and is_visible(r, self._caller)]
            for rows in runs(shown, _size_bytes_of, things_max=self._ask.events_max):
                self._check_token()
                cursor.check()
                count += len(rows)
                yield [Existing(row, page.revision) for row in rows]
            if not page.more:
                break
            query = replace(
                query,
                after_key=page.last_key,
                after_id=page.last_id,
                pinned_revision=page.revision,
            )
        self.revision = page.revision
        await self._begin(cursor)
        yield [SnapshotDone(count, self.revision, self._token)]

    async def _begin(self, cursor: Cursor) -> None:
        await self._feed.catch_up(self.revision, FEED_S)
        cursor.check()
        cursor.position = self.revision

    async def follow(self, cursor: Cursor) -> AsyncGenerator[Run, None]:
        """Each change above the place, and a bookmark after every silence."""
        told_s = asyncio.get_running_loop().time()
        while True:
            changes = await self._next(cursor)
            seen = runs(self._seen(changes), _size_bytes, things_max=self._ask.events_max)
            for run in seen:
                self._check_rights()
                yield self._told(run)
                told_s = asyncio.get_running_loop().time()
            self.revision = cursor.position
            if asyncio.get_running_loop().time() >= told_s + self._ask.bookmark_s:
                yield [Bookmark(self.revision, self._token)]
                told_s = asyncio.get_running_loop().time()
            if not changes:
                await self._sleep(cursor, told_s + self._ask.bookmark_s)

    async def _next(self, cursor: Cursor) -> list[Change]:
        self._check_rights()
        changes = cursor.take()
        if changes is not None:
            return changes
        past = await self._feed.log.after(cursor.position)
        cursor.check()
        cursor.position = past[-1].row.revision
        return [change for change in past if concerns(change.row, self.key)]

    def _seen(self, changes: Sequence[Change]) -> Iterator[_Seen]:
        for change in changes:
            sight = change.seen(self._conditions)
            if sight is not Sight.UNSEEN and is_visible(change.row, self._caller):
                yield (Changed if sight is Sight.CHANGED else Left), change.row

    def _told(self, seen: Sequence[_Seen]) -> Run:
        """Events of what was seen; from now on the caller has been told."""
        *before, (last, row) = seen
        self.revision = row.revision
        told: list[WatchEvent] = [event(row, row.revision, "") for event, row in before]
        told.append(last(row, row.revision, self._token))
        return told

    async def _sleep(self, cursor: Cursor, bookmark_s: float) -> None:
        """Until something happens, a bookmark is due (by the monotonic clock), or the caller's
        token ends.
        """
        wait_s = min(
            bookmark_s - asyncio.get_running_loop().time(), self._caller.expires_at_s - time.time()
        )
        try:
            async with asyncio.timeout(wait_s):
                await cursor.sleep()
        except TimeoutError:
            pass

    def _check_rights(self) -> None:
        """Also of a watch that is never silent: as often as a silent one has a bookmark."""
        self._check_token()
        now_s = asyncio.get_running_loop().time()
        if self._ask.recheck is not None and now_s - self._checked_s >= self._ask.bookmark_s:
            self._ask.recheck()
            self._checked_s = now_s

    def _check_token(self) -> None:
        if time.time() >= self._caller.expires_at_s:
            raise Unauthenticated(
                "TOKEN_EXPIRED", "the token of this watch has expired; go on with a new one"
            )

    def ended_by(self, error: CloudError) -> CloudError:
        """What the caller is told: with its token, if it can go on."""
        if error.reason == "HISTORY_CHANGED":
            return compacted(self._feed.oldest_revision)
        metadata = dict(error.metadata)
        if self.revision >= 0 and not isinstance(error, OutOfRange):
            metadata["resume_token"] = self._token
        return type(error)(
            error.reason,
            error.message,
            field=error.field,
            metadata=metadata,
            retry_after_s=error.retry_after_s,
        )


def _shown(caller: Caller, kind: ResourceKind) -> tuple[Condition, ...]:
    """What the conductor sees to in what it reads for the caller, for what comes by the feed."""
    return shown_to(cloud_admin=caller.cloud_admin) if kind is ResourceKind.OPERATION else ()


def _present(kind: ResourceKind) -> tuple[Condition, ...]:
    """What a snapshot shows beside what the filter says: of operations those under way."""
    if kind is not ResourceKind.OPERATION:
        return ()
    return (Condition("state", (str(OperationState.RUNNING.value),)),)


def _size_bytes(seen: _Seen) -> int:
    return _size_bytes_of(seen[1])


def _size_bytes_of(row: Row) -> int:
    return OVERHEAD_BYTES + len(row.body)
