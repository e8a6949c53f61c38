"""Watches over a conductor in memory, for tests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from services.api.flows.follow_feed import Feed
from services.api.flows.watch_rows import (
    Existing,
    Run,
    SnapshotDone,
    WatchAsk,
    WatchEvent,
    watch_rows,
)
from services.api.logic.caller import Caller, Role
from services.domain.errors import (
    CloudError,
)
from services.domain.kinds import ResourceKind
from tests.fakes.changelog import Changelog

KEY = b"k" * 32
INSTANCE, OPERATION, HOST = ResourceKind.INSTANCE, ResourceKind.OPERATION, ResourceKind.HOST
MEMBER = Caller("me", "p", Role.MEMBER, float(2**40))
ADMIN = Caller("root", "admin", Role.CLOUD_ADMIN, float(2**40))
SOON = WatchAsk(INSTANCE, bookmark_s=0.02)
PATIENCE_S = 60.0
EVENTS_MAX = 500
Told = TypeVar("Told")


async def watch(
    changelog: Changelog, feed: Feed, ask: WatchAsk = SOON, caller: Caller = MEMBER
) -> AsyncGenerator[WatchEvent, None]:
    """The events one by one, as a client reads them out of its messages."""
    async with aclosing(watch_runs(changelog, feed, ask, caller)) as runs:
        async for run in runs:
            for event in run:
                yield event


async def watch_runs(
    changelog: Changelog, feed: Feed, ask: WatchAsk = SOON, caller: Caller = MEMBER
) -> AsyncGenerator[Run, None]:
    """The runs, each of which is as it must be whatever is in it."""
    runs = watch_rows(changelog, feed, caller, ask, page_key=KEY)
    async with aclosing(runs):
        async for run in runs:
            assert 1 <= len(run) <= ask.events_max
            assert not any(event.resume_token for event in run[:-1])
            assert bool(run[-1].resume_token) is not isinstance(run[-1], Existing)
            yield run


async def following(events: AsyncGenerator[Told, None]) -> Told:
    return await asyncio.wait_for(anext(events), PATIENCE_S)


async def told(events: AsyncGenerator[WatchEvent, None], revision: int) -> list[WatchEvent]:
    """What a watch tells until all up to a revision is told."""
    found = []
    for _ in range(revision + EVENTS_MAX):
        event = await following(events)
        found.append(event)
        if not isinstance(event, Existing) and event.revision >= revision:
            return found
    raise AssertionError("the watch does not get there")


async def ended(events: AsyncGenerator[WatchEvent, None]) -> CloudError:
    """How a watch ends."""
    try:
        for _ in range(EVENTS_MAX):
            await following(events)
    except CloudError as error:
        return error
    raise AssertionError("the watch does not end")


async def begun(
    changelog: Changelog, feed: Feed, ask: WatchAsk = SOON, caller: Caller = MEMBER
) -> tuple[AsyncGenerator[WatchEvent, None], SnapshotDone]:
    """A watch after its snapshot."""
    events = watch(changelog, feed, ask, caller)
    while not isinstance(event := await following(events), SnapshotDone):
        assert isinstance(event, Existing)
    return events, event
