"""Watches: what they show, how they end, and that nobody else is told."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.api.flows.follow_feed import Feed
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.watch_operation import watch_operation
from services.api.flows.watch_rows import (
    Bookmark,
    Changed,
    Existing,
    Left,
    SnapshotDone,
    WatchAsk,
)
from services.api.logic.change import OVERHEAD_BYTES
from services.api.logic.row import Row
from services.domain.errors import (
    Denied,
    NoCapacity,
    OutOfRange,
    Unauthenticated,
    Unavailable,
)
from tests.fakes.changelog import Changelog, hear, replica
from tests.unit.api.watching import (
    ADMIN,
    EVENTS_MAX,
    INSTANCE,
    KEY,
    MEMBER,
    OPERATION,
    SOON,
    begun,
    ended,
    following,
    told,
    watch,
)


async def test_a_list_goes_on_as_a_watch(changelog: Changelog, feed: Feed) -> None:
    changelog.put("i-1", {"name": "a"})
    changelog.put("i-2", {"name": "b"})
    ask = ListAsk(INSTANCE, 0, "", 'name="a"')
    page = await list_rows(changelog, feed, MEMBER, ask, page_key=KEY)
    changelog.put("i-3", {"name": "a"})
    changelog.put("i-1", {"name": "b"})
    resumed = replace(SOON, filter='name = "a"', resume_token=page.resume_token)
    async with aclosing(watch(changelog, feed, resumed)) as events:
        first, second, _ = await told(events, 4), *await told(events, 4), None
        assert first == [
            Changed(changelog.log[2], 3, first[0].resume_token),
            Left(changelog.log[3], 4, first[1].resume_token),
        ]
        assert isinstance(second, Bookmark)


async def test_a_watch_of_a_project_shows_none_of_another(changelog: Changelog, feed: Feed) -> None:
    changelog.put("i-1", project_id="q")
    events, done = await begun(changelog, feed)
    assert done.count == 0
    changelog.put("i-2", project_id="q")
    changelog.put("i-3")
    await hear(feed, changelog)
    (event,) = await told(events, 3)
    assert isinstance(event, Changed)
    assert event.row.id == "i-3"
    with pytest.raises(Denied):
        await following(watch(changelog, feed, replace(SOON, all_projects=True)))


async def test_a_cloud_admin_sees_every_revision_of_the_noun(
    changelog: Changelog, feed: Feed
) -> None:
    events, _ = await begun(changelog, feed, replace(SOON, all_projects=True), ADMIN)
    for number in range(1, 20):
        changelog.put(f"i-{number % 4}-{number % 3}", project_id=f"p{number % 3}")
    await hear(feed, changelog)
    assert [event.revision for event in await told(events, 19)] == list(range(1, 20))


async def test_a_watch_of_operations_begins_with_those_under_way(
    changelog: Changelog, feed: Feed
) -> None:
    changelog.put("o-1", {"state": "1"}, kind=OPERATION)
    changelog.put("o-2", {"state": "2"}, kind=OPERATION)
    ask = replace(SOON, kind=OPERATION)
    events = watch(changelog, feed, ask)
    first = await following(events)
    assert isinstance(first, Existing)
    assert first.row.id == "o-1"
    assert isinstance(await following(events), SnapshotDone)
    changelog.put("o-2", {"state": "2"}, kind=OPERATION)
    await hear(feed, changelog)
    assert isinstance(await following(events), Changed)


async def test_a_snapshot_is_true_to_one_revision_whatever_happens_while_it_is_read(
    changelog: Changelog, feed: Feed
) -> None:
    for number in range(250):
        changelog.put(f"i-{number:03}")
    events = watch(changelog, feed)
    first = await following(events)
    for number in (0, 100, 200, 300):
        changelog.put(f"i-{number:03}", {"name": "changed"})
    changelog.put("i-201", deleted=True)
    await hear(feed, changelog)
    seen = [first, *await told(events, changelog.head)]
    existing = [event for event in seen if isinstance(event, Existing)]
    assert {event.revision for event in existing} == {250}
    assert len(existing) == 250
    assert [event.revision for event in seen[250:]] == [250, 251, 252, 253, 254, 255]


async def test_a_snapshot_whose_revision_is_cut_away_ends_without_a_token(
    changelog: Changelog, feed: Feed
) -> None:
    for number in range(150):
        changelog.put(f"i-{number:03}")
    events = watch(changelog, feed)
    await following(events)
    changelog.put("i-999")
    changelog.compacted = 151
    error = await ended(events)
    assert isinstance(error, OutOfRange)
    assert error.metadata == {"oldest_revision": "151"}


async def test_a_reader_that_is_too_slow_is_cut_off_with_a_token_that_loses_nothing(
    changelog: Changelog,
) -> None:
    async with replica(changelog, bytes_max=10 * (OVERHEAD_BYTES + 60)) as feed:
        slow, _ = await begun(changelog, feed)
        changelog.put("i-0")
        await hear(feed, changelog)
        seen = [(await following(slow)).revision]
        for number in range(1, 60):
            changelog.put(f"i-{number}")
            await hear(feed, changelog)
        error = await ended(slow)
        assert isinstance(error, NoCapacity)
        assert error.reason == "WATCH_TOO_SLOW"
        token = error.metadata["resume_token"]
        again = watch(changelog, feed, replace(SOON, resume_token=token))
        seen += [event.revision for event in await told(again, 60)]
        assert seen == list(range(1, 61))


async def test_bookmarks_come_while_others_are_busy_and_only_in_silence(
    changelog: Changelog, feed: Feed
) -> None:
    events, _ = await begun(changelog, feed, replace(SOON, filter='name = "a"'))
    quiet = 0
    for number in range(50):
        changelog.put(f"i-{number}", {"name": "b"})
        await hear(feed, changelog)
        await asyncio.sleep(0.002)
    while not isinstance(event := await following(events), Changed):
        assert isinstance(event, Bookmark)
        quiet += 1
        if quiet == 3:
            changelog.put("i-a", {"name": "a"})
            await hear(feed, changelog)
    assert event.revision == 51


async def test_a_watch_ends_with_its_callers_token_and_says_where_to_go_on(
    changelog: Changelog, feed: Feed
) -> None:
    brief = replace(MEMBER, expires_at_s=time.time() + 0.2)
    events, done = await begun(changelog, feed, WatchAsk(INSTANCE, bookmark_s=3600.0), brief)
    error = await ended(events)
    assert isinstance(error, Unauthenticated)
    assert error.reason == "TOKEN_EXPIRED"
    assert error.metadata["resume_token"] == done.resume_token


async def test_rights_are_checked_again_at_every_bookmark(changelog: Changelog, feed: Feed) -> None:
    checks = []

    def recheck() -> None:
        checks.append(1)
        if len(checks) == 3:
            raise Denied("ROLE_MISSING", "not any more")

    events, _ = await begun(changelog, feed, replace(SOON, recheck=recheck))
    assert [type(await following(events)) for _ in range(2)] == [Bookmark, Bookmark]
    error = await ended(events)
    assert isinstance(error, Denied)
    assert "resume_token" in error.metadata


async def test_rights_are_checked_again_of_a_watch_that_is_never_silent(
    changelog: Changelog, feed: Feed
) -> None:
    def recheck() -> None:
        raise Denied("ROLE_MISSING", "not any more")

    events, _ = await begun(changelog, feed, replace(SOON, bookmark_s=0.2, recheck=recheck))
    for number in range(EVENTS_MAX):
        changelog.put(f"i-{number}")
        await hear(feed, changelog)
        await asyncio.sleep(0.01)
        try:
            assert isinstance(await following(events), Changed)
        except Denied:
            return
    raise AssertionError("nobody asked")


async def test_the_end_of_a_replica_gives_each_watch_its_own_token(
    changelog: Changelog, feed: Feed
) -> None:
    mine, my_done = await begun(changelog, feed)
    theirs, their_done = await begun(changelog, feed, SOON, replace(MEMBER, subject="you"))
    feed.hub.close()
    for events, done in ((mine, my_done), (theirs, their_done)):
        error = await ended(events)
        assert isinstance(error, Unavailable)
        assert error.reason == "API_STOPPING"
        assert error.metadata["resume_token"] == done.resume_token
    async with replica(changelog) as other:
        resumed = replace(SOON, resume_token=my_done.resume_token)
        assert isinstance(await following(watch(changelog, other, resumed)), Bookmark)


async def test_a_watcher_that_goes_away_leaves_nothing_behind(
    changelog: Changelog, feed: Feed
) -> None:
    events, _ = await begun(changelog, feed)
    assert feed.hub.watchers() == {INSTANCE: 1}
    await events.aclose()
    assert feed.hub.watchers() == {}


async def test_an_operation_is_followed_version_by_version_to_its_end(
    changelog: Changelog, feed: Feed
) -> None:
    def is_ended(row: Row) -> bool:
        return b'"state": "2"' in row.body

    changelog.put("o-1", {"state": "1"}, kind=OPERATION)
    await hear(feed, changelog)
    rows = watch_operation(changelog, feed.hub, MEMBER, "O-1", is_ended=is_ended)
    versions = [(await anext(rows)).version]
    for state in ("1", "1", "2", "2"):
        changelog.put("o-1", {"state": state}, kind=OPERATION)
    await hear(feed, changelog)
    versions += [row.version async for row in rows]
    assert versions == [1, 2, 3, 4]
    ended_already = watch_operation(changelog, feed.hub, MEMBER, "o-1", is_ended=is_ended)
    assert [row.version async for row in ended_already] == [5]


async def test_an_operation_that_never_rests_is_not_followed_past_the_callers_token(
    changelog: Changelog, feed: Feed
) -> None:
    changelog.put("o-1", kind=OPERATION)
    brief = replace(MEMBER, expires_at_s=time.time() + 0.1)
    rows = watch_operation(changelog, feed.hub, brief, "o-1", is_ended=lambda _: False)
    await anext(rows)
    for _ in range(50):
        changelog.put("o-1", kind=OPERATION)
    await hear(feed, changelog)
    await asyncio.sleep(0.2)
    with pytest.raises(Unauthenticated):
        await anext(rows)


async def test_following_an_operation_ends_with_the_callers_token(
    changelog: Changelog, feed: Feed
) -> None:
    changelog.put("o-1", kind=OPERATION)
    brief = replace(MEMBER, expires_at_s=time.time() + 0.1)
    rows = watch_operation(changelog, feed.hub, brief, "o-1", is_ended=lambda _: False)
    await anext(rows)
    with pytest.raises(Unauthenticated) as expired:
        await anext(rows)
    assert expired.value.reason == "TOKEN_EXPIRED"


async def test_what_admins_do_to_hosts_and_projects_no_tenant_watches(
    changelog: Changelog, feed: Feed
) -> None:
    """Also not where an admin's token is of the tenant's project. MECHANICS E7."""
    ask = replace(SOON, kind=OPERATION)
    admin = replace(ADMIN, project_id=MEMBER.project_id)
    tenants, _ = await begun(changelog, feed, ask)
    admins, _ = await begun(changelog, feed, ask, admin)
    hidden = changelog.put("hidden", {"action": "12", "resource_id": "h1"}, kind=OPERATION)
    shown = changelog.put("shown", {"action": "1", "resource_id": "i"}, kind=OPERATION)
    await hear(feed, changelog)
    of_tenant = await told(tenants, shown.revision)
    of_admin = await told(admins, shown.revision)
    assert [event.row.id for event in of_tenant if isinstance(event, Changed)] == ["shown"]
    assert [event.row.id for event in of_admin if isinstance(event, Changed)] == [
        hidden.id,
        "shown",
    ]
    await tenants.aclose()
    await admins.aclose()
