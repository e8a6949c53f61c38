"""Watches that may tell several events at once: what is there, in order, within bounds."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.flows.follow_feed import Feed
from services.api.flows.watch_rows import Bookmark, Changed, Existing, Left, Run, SnapshotDone
from services.api.logic.change import OVERHEAD_BYTES
from services.api.logic.runs import RUN_BYTES_MAX, runs
from services.domain.errors import NoCapacity, Unauthenticated
from tests.fakes.changelog import Changelog, hear, replica
from tests.unit.api.watching import (
    MEMBER,
    SOON,
    following,
    told,
    watch,
    watch_runs,
)

MANY = replace(SOON, events_max=256)
GRPC_BYTES_MAX = 4 * 1024 * 1024


@given(st.lists(st.integers(0, RUN_BYTES_MAX + 10)), st.integers(1, 5))
def test_runs_are_all_things_in_order_within_both_bounds(sizes: list[int], most: int) -> None:
    found = list(runs(sizes, lambda size: size, things_max=most))
    assert [size for run in found for size in run] == sizes
    assert all(1 <= len(run) <= most for run in found)
    assert all(len(run) == 1 or sum(run) <= RUN_BYTES_MAX for run in found)
    for run, following_run in itertools.pairwise(found):
        assert len(run) == most or sum(run) + following_run[0] > RUN_BYTES_MAX


async def test_what_happened_at_once_is_told_at_once_with_one_token(
    changelog: Changelog, feed: Feed
) -> None:
    ask = replace(MANY, filter='name = "a"')
    for number in range(3):
        changelog.put(f"i-{number}", {"name": "a"})
    async with aclosing(watch_runs(changelog, feed, ask)) as events:
        there = await following(events)
        assert [type(event) for event in there] == [Existing] * 3
        assert [type(event) for event in await following(events)] == [SnapshotDone]
        changelog.put("i-0", {"name": "b"})
        changelog.put("i-3", {"name": "b"})
        changelog.put("i-3", {"name": "a"})
        changelog.put("i-3", project_id="q")
        changelog.put("i-1", {"name": "a"}, deleted=True)
        await hear(feed, changelog)
        run = await following(events)
    assert [(type(event), event.revision) for event in run] == [
        (Left, 4),
        (Changed, 6),
        (Changed, 8),
    ]
    changelog.put("i-9", {"name": "a"})
    await hear(feed, changelog)
    resumed = replace(ask, resume_token=run[-1].resume_token)
    assert [event.revision for event in await told(watch(changelog, feed, resumed), 9)] == [9]


async def test_who_may_not_be_told_at_once_is_told_one_by_one(
    changelog: Changelog, feed: Feed
) -> None:
    async with aclosing(watch_runs(changelog, feed, SOON)) as events:
        await following(events)
        for number in range(5):
            changelog.put(f"i-{number}")
        await hear(feed, changelog)
        for number in range(5):
            (event,) = await following(events)
            assert event.revision == number + 1
            assert event.resume_token
        (bookmark,) = await following(events)
        assert isinstance(bookmark, Bookmark)


async def test_a_run_is_far_below_what_a_message_may_have(changelog: Changelog) -> None:
    """From the ring, from the log and in a snapshot."""
    long = "x" * 60_000
    async with replica(changelog, bytes_max=1 << 26) as feed:
        async with aclosing(watch_runs(changelog, feed, MANY)) as events:
            ((done,),) = [await following(events)]
            for number in range(100):
                changelog.put(f"i-{number}", {"name": long})
            await hear(feed, changelog)
            ring = await _until(events, 100)
        async with aclosing(watch_runs(changelog, feed, MANY)) as events:
            snapshot = await _until(events, 100)
    async with replica(changelog) as late:
        resumed = replace(MANY, resume_token=done.resume_token)
        async with aclosing(watch_runs(changelog, late, resumed)) as events:
            log = await _until(events, 100)
    for found in (ring, snapshot, log):
        sizes = [
            sum(OVERHEAD_BYTES + len(e.row.body) for e in run if isinstance(e, Changed | Existing))
            for run in found
        ]
        assert len(found[0]) > 1
        assert max(sizes) <= RUN_BYTES_MAX < GRPC_BYTES_MAX / 4


async def _until(runs: AsyncGenerator[Run, None], events: int) -> list[Run]:
    found: list[Run] = []
    while sum(len(run) for run in found) < events:
        found.append(await following(runs))
    return found


async def test_one_that_is_too_slow_is_cut_off_after_its_last_whole_run(
    changelog: Changelog,
) -> None:
    async with replica(changelog, bytes_max=10 * (OVERHEAD_BYTES + 60)) as feed:
        async with aclosing(watch_runs(changelog, feed, replace(MANY, events_max=3))) as events:
            await following(events)
            for number in range(5):
                changelog.put(f"i-{number}")
            await hear(feed, changelog)
            seen = [event.revision for event in await following(events)]
            for number in range(5, 60):
                changelog.put(f"i-{number}")
                await hear(feed, changelog)
            seen += [event.revision for event in await following(events)]
            with pytest.raises(NoCapacity) as cut:
                await following(events)
        assert seen == [1, 2, 3, 4, 5]
        again = replace(MANY, resume_token=cut.value.metadata["resume_token"])
        seen += [event.revision for event in await told(watch(changelog, feed, again), 60)]
    assert seen == list(range(1, 61))


async def test_no_run_is_told_after_the_callers_token_has_expired(
    changelog: Changelog, feed: Feed
) -> None:
    brief = replace(MEMBER, expires_at_s=time.time() + 0.3)
    async with aclosing(watch_runs(changelog, feed, replace(MANY, events_max=2), brief)) as events:
        await following(events)
        for number in range(4):
            changelog.put(f"i-{number}")
        await hear(feed, changelog)
        run = await following(events)
        while time.time() < brief.expires_at_s:  # noqa: ASYNC110  # the clock of tokens is the wall's
            await asyncio.sleep(0.02)
        with pytest.raises(Unauthenticated) as expired:
            await following(events)
    assert expired.value.metadata["resume_token"] == run[-1].resume_token
