"""Watches the rows of one noun: a snapshot that is true to one revision, then every change above
it, in order; a resume token goes on after the last one, at any replica.

Owns what a watch sees, when it is told that nothing happened, and how it ends. What the hub keeps
is taken from there; what it has forgotten, from the log.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
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
from services.api.logic.change import Change, Sight
from services.api.logic.filter import text_of
from services.api.logic.ring import concerns
from services.api.logic.row import PageQuery, Row, is_visible
from services.api.logic.seal import Place, seal, unseal
from services.domain.condition import Condition
from services.domain.errors import CloudError, Invalid, OutOfRange, Unauthenticated
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationState

BOOKMARK_S = 30.0


@dataclass(frozen=True, slots=True)
class WatchAsk:
    """What a watch asks for. `bookmark_s` is the silence after which a bookmark is sent; `recheck`
    raises where the caller may watch no more, and is called at each of them.
    """

    kind: ResourceKind
    filter: str = ""
    resume_token: str = ""
    all_projects: bool = False
    bookmark_s: float = BOOKMARK_S
    recheck: Callable[[], None] | None = None


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
    """One new version."""

    row: Row
    revision: int
    resume_token: str


@dataclass(frozen=True, slots=True)
class Left:
    """The version by which a row does not match the filter any more."""

    row: Row
    revision: int
    resume_token: str


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing more to show up to `revision`."""

    revision: int
    resume_token: str


WatchEvent = Existing | SnapshotDone | Changed | Left | Bookmark


async def watch_rows(
    conductor: Conductor, feed: Feed, caller: Caller, ask: WatchAsk, *, page_key: bytes
) -> AsyncGenerator[WatchEvent, None]:
    """Events until the caller goes.

    Raises Denied (ROLE_MISSING), Invalid (FILTER_INVALID, RESUME_TOKEN_INVALID), OutOfRange
    (REVISION_COMPACTED), NoCapacity (WATCH_TOO_SLOW), Unauthenticated (TOKEN_EXPIRED), Unavailable
    (API_STOPPING, PEER_UNREACHABLE). After the snapshot each has the metadata `resume_token`.
    """
    watch = _Watch(feed, caller, ask, page_key=page_key)
    await feed.catch_up(0, FEED_S)
    try:
        with feed.hub.cursor(watch.key, feed.hub.revision) as cursor:
            watch.history_id = feed.hub.history_id
            if ask.resume_token:
                await watch.resume(cursor)
            else:
                async with contextlib.aclosing(watch.snapshot(conductor, cursor)) as existing:
                    async for event in existing:
                        yield event
            async with contextlib.aclosing(watch.follow(cursor)) as changes:
                async for event in changes:
                    yield event
    except CloudError as error:
        raise watch.ended_by(error) from error


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
        self._conditions = conditions_of(caller, ask.kind, ask.filter)
        self._bound_to = watch_binding(
            caller, ask.kind, project_id, text_of(self._conditions, ask.kind)
        )

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

    async def snapshot(
        self, conductor: Conductor, cursor: Cursor
    ) -> AsyncGenerator[WatchEvent, None]:
        """What is there, read in pages as fast as the caller takes it."""
        kind, project_id = self.key
        query = PageQuery(kind, project_id, READ_ROWS_MAX, (*self._conditions, *_present(kind)))
        count = 0
        while True:
            page = await conductor.page_read(self._caller, query)
            for row in page.rows:
                self._check_token()
                cursor.check()
                if not row.deleted and is_visible(row, self._caller):
                    count += 1
                    yield Existing(row, page.revision)
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
        yield SnapshotDone(count, self.revision, self._token)

    async def _begin(self, cursor: Cursor) -> None:
        await self._feed.catch_up(self.revision, FEED_S)
        cursor.check()
        cursor.position = self.revision

    async def follow(self, cursor: Cursor) -> AsyncGenerator[WatchEvent, None]:
        """Each change above the place, and a bookmark after every silence."""
        told_s = time.monotonic()
        while True:
            changes = await self._next(cursor)
            for change in changes:
                self._check_token()
                event = self._event(change)
                if event is not None:
                    yield event
                    told_s = time.monotonic()
            self.revision = cursor.position
            if time.monotonic() - told_s >= self._ask.bookmark_s:
                if self._ask.recheck is not None:
                    self._ask.recheck()
                yield Bookmark(self.revision, self._token)
                told_s = time.monotonic()
            if not changes:
                await self._sleep(cursor, told_s + self._ask.bookmark_s)

    async def _next(self, cursor: Cursor) -> list[Change]:
        self._check_token()
        changes = cursor.take()
        if changes is not None:
            return changes
        past = await self._feed.log.after(cursor.position)
        cursor.check()
        cursor.position = past[-1].row.revision
        return [change for change in past if concerns(change.row, self.key)]

    def _event(self, change: Change) -> Changed | Left | None:
        row = change.row
        sight = change.seen(self._conditions)
        if sight is Sight.UNSEEN or not is_visible(row, self._caller):
            return None
        self.revision = row.revision
        event = Changed if sight is Sight.CHANGED else Left
        return event(row, row.revision, self._token)

    async def _sleep(self, cursor: Cursor, bookmark_s: float) -> None:
        """Until something happens, a bookmark is due (by the monotonic clock), or the caller's
        token ends.
        """
        wait_s = min(bookmark_s - time.monotonic(), self._caller.expires_at_s - time.time())
        try:
            async with asyncio.timeout(wait_s):
                await cursor.sleep()
        except TimeoutError:
            pass

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


def _present(kind: ResourceKind) -> tuple[Condition, ...]:
    """What a snapshot shows beside what the filter says: of operations those under way."""
    if kind is not ResourceKind.OPERATION:
        return ()
    return (Condition("state", (str(OperationState.RUNNING.value),)),)
