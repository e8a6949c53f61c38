"""Resume tokens: what they are good for, and what is read from the log."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.api.flows.follow_feed import Feed
from services.api.flows.list_rows import watch_binding
from services.api.flows.ports import Changes
from services.api.flows.watch_rows import (
    Bookmark,
    Changed,
    WatchAsk,
)
from services.api.logic.caller import Caller
from services.api.logic.seal import Place, seal
from services.domain.errors import (
    Invalid,
    OutOfRange,
)
from tests.fakes.changelog import Changelog, hear, replica
from tests.unit.api.watching import (
    ADMIN,
    INSTANCE,
    KEY,
    MEMBER,
    OPERATION,
    SOON,
    begun,
    ended,
    told,
    watch,
)

OTHERS: list[tuple[str, Callable[[WatchAsk], WatchAsk], Caller]] = [
    ("filter", lambda ask: replace(ask, filter='name = "b"'), MEMBER),
    ("no filter", lambda ask: replace(ask, filter=""), MEMBER),
    ("noun", lambda ask: replace(ask, kind=OPERATION, filter=""), MEMBER),
    ("project", lambda ask: ask, replace(MEMBER, project_id="q")),
    ("caller", lambda ask: ask, replace(MEMBER, subject="somebody")),
    ("all projects", lambda ask: replace(ask, all_projects=True), ADMIN),
    ("bytes", lambda ask: replace(ask, resume_token=ask.resume_token[::-1]), MEMBER),
    ("nonsense", lambda ask: replace(ask, resume_token="nonsense"), MEMBER),
]


@pytest.mark.parametrize(("what", "changed", "caller"), OTHERS, ids=[o[0] for o in OTHERS])
async def test_a_token_of_another_watch_is_refused(
    changelog: Changelog,
    feed: Feed,
    what: str,
    changed: Callable[[WatchAsk], WatchAsk],
    caller: Caller,
) -> None:
    ask = replace(SOON, filter='name = "a"')
    _, done = await begun(changelog, feed, ask)
    ask = replace(ask, resume_token=done.resume_token)
    await told(watch(changelog, feed, ask), 0)
    error = await ended(watch(changelog, feed, changed(ask), caller))
    assert isinstance(error, Invalid), what
    assert (error.reason, error.field) == ("RESUME_TOKEN_INVALID", "resume_token")


async def test_a_token_of_another_history_is_compacted(changelog: Changelog, feed: Feed) -> None:
    for number in range(5):
        changelog.put(f"i-{number}")
    events, done = await begun(changelog, feed)
    changelog.restore(3)
    await hear(feed, changelog)
    for error in (
        await ended(events),
        await ended(watch(changelog, feed, replace(SOON, resume_token=done.resume_token))),
    ):
        assert isinstance(error, OutOfRange)
        assert error.reason == "REVISION_COMPACTED"
        assert "resume_token" not in error.metadata
    _, again = await begun(changelog, feed)
    assert (again.count, again.revision) == (3, 3)


@pytest.mark.parametrize("leaks", [False, True])
async def test_a_token_that_is_too_old_says_what_the_oldest_is(
    changelog: Changelog, leaks: bool
) -> None:
    changelog.leaks = leaks
    async with replica(changelog) as feed:
        _, done = await begun(changelog, feed)
    for number in range(5):
        changelog.put(f"i-{number}")
    changelog.compacted = 2
    async with replica(changelog) as late:
        resumed = replace(SOON, resume_token=done.resume_token)
        error = await ended(watch(changelog, late, resumed))
    assert isinstance(error, OutOfRange)
    assert error.metadata == {"oldest_revision": "2"}


async def test_a_ring_that_reaches_back_serves_what_the_log_has_lost(
    changelog: Changelog, feed: Feed
) -> None:
    _, done = await begun(changelog, feed)
    for number in range(5):
        changelog.put(f"i-{number}")
    await hear(feed, changelog)
    changelog.compacted = 5
    resumed = replace(SOON, resume_token=done.resume_token)
    events = await told(watch(changelog, feed, resumed), 5)
    assert [event.revision for event in events] == [1, 2, 3, 4, 5]


async def test_bookmarks_let_a_token_outlive_what_is_cut_away(
    changelog: Changelog, feed: Feed
) -> None:
    events, done = await begun(changelog, feed)
    for number in range(400):
        changelog.put(f"other-{number}", project_id="q")
    await hear(feed, changelog)
    (bookmark,) = await told(events, 400)
    assert isinstance(bookmark, Bookmark)
    await events.aclose()
    changelog.compacted = 300
    async with replica(changelog) as other:
        changelog.put("i-1")
        await hear(other, changelog)
        old = replace(SOON, resume_token=done.resume_token)
        assert isinstance(await ended(watch(changelog, other, old)), OutOfRange)
        resumed = replace(SOON, resume_token=bookmark.resume_token)
        (change,) = await told(watch(changelog, other, resumed), 401)
        assert isinstance(change, Changed)


async def test_many_who_come_back_at_once_read_the_log_once(changelog: Changelog) -> None:
    async with replica(changelog) as feed:
        _, done = await begun(changelog, feed)
    for number in range(1000):
        changelog.put(f"i-{number}")
    async with replica(changelog) as restarted:
        changelog.reads.clear()

        async def come_back() -> int:
            resumed = replace(SOON, resume_token=done.resume_token)
            async with aclosing(watch(changelog, restarted, resumed)) as events:
                return len(await told(events, 1000))

        counts = await asyncio.gather(*(come_back() for _ in range(30)))
        assert set(counts) == {1000}
        assert [after for after in changelog.reads if after < 1000] == [0, 256, 512, 768]


async def test_a_replica_that_slept_past_what_is_kept_begins_anew_and_says_so(
    changelog: Changelog, feed: Feed
) -> None:
    events, _ = await begun(changelog, feed)
    for number in range(20):
        changelog.put(f"i-{number}")
    changelog.compacted = 10
    await feed.receive(await changelog.changes_read(0, 1))
    error = await ended(events)
    assert isinstance(error, OutOfRange)
    assert error.reason == "REVISION_COMPACTED"
    _, again = await begun(changelog, feed)
    assert again.count == 20


class Gated(Changelog):
    """Its log answers when the gate is open, with what it was when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.torn = False

    async def changes_read(self, after_revision: int, limit: int) -> Changes:
        answer = await super().changes_read(after_revision, limit)
        if self.torn and len(answer.rows) > 2:
            answer = replace(answer, rows=[*answer.rows[:1], *answer.rows[2:]])
        self.asked.set()
        await self.gate.wait()
        return answer


async def test_what_the_log_gave_before_another_history_is_not_told_in_it() -> None:
    gated = Gated()
    async with replica(gated) as feed:
        _, done = await begun(gated, feed)
    for number in range(20):
        gated.put(f"i-{number}")
    async with replica(gated) as feed:
        gated.gate.clear()
        gated.asked.clear()
        old = watch(gated, feed, replace(SOON, resume_token=done.resume_token))
        ending = asyncio.ensure_future(ended(old))
        await gated.asked.wait()
        gated.restore(10)
        for number in range(20, 40):
            gated.put(f"i-{number}")
        await feed.receive(Changes([], gated.head, gated.history_id))
        while feed.begun.is_set():  # noqa: ASYNC110  # nobody tells when the old one is over
            await asyncio.sleep(0)
        gated.gate.set()
        assert (await ending).reason == "REVISION_COMPACTED"
        await feed.begun.wait()
        other_replicas = seal(
            KEY, Place(gated.history_id, 12), watch_binding(MEMBER, INSTANCE, "p", "")
        )
        resumed = replace(SOON, resume_token=other_replicas)
        events = await told(watch(gated, feed, resumed), 30)
        shown = [event.row.id for event in events if isinstance(event, Changed)]
        assert shown == [f"i-{number}" for number in range(22, 40)]


async def test_a_log_with_a_hole_is_not_told_across_it() -> None:
    gated = Gated()
    async with replica(gated) as feed:
        _, done = await begun(gated, feed)
    for number in range(20):
        gated.put(f"i-{number}")
    async with replica(gated) as feed:
        gated.torn = True
        events = watch(gated, feed, replace(SOON, resume_token=done.resume_token))
        assert [event.revision for event in await told(events, 20)] == list(range(1, 21))
