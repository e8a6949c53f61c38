"""The hub of changes: order, bounds, who is woken, and who is cut off."""

import asyncio
import contextlib
from collections.abc import Mapping

import pytest

from services.api.flows.follow_changes import WAITS_MAX, WATCHES_MAX, Hub
from services.api.flows.take_changes import KEPT_MAX, Cursor
from services.api.logic.change import OVERHEAD_BYTES
from services.api.logic.ring import TAKEN_MAX
from services.api.logic.row import Row
from services.domain.condition import Condition
from services.domain.errors import NoCapacity, Unavailable
from services.domain.kinds import ResourceKind

INSTANCE, OPERATION, HOST = ResourceKind.INSTANCE, ResourceKind.OPERATION, ResourceKind.HOST
ALL = (INSTANCE, "")


def row(
    revision: int, row_id: str = "i", kind: ResourceKind = INSTANCE, project_id: str = "p"
) -> Row:
    return Row(kind, row_id, project_id, revision, revision, epoch=0, body=b"x" * 400)


def rows(first: int, last: int) -> list[Row]:
    return [row(revision) for revision in range(first, last + 1)]


def no_fields(kind: ResourceKind, body: bytes) -> Mapping[str, str]:
    return {}


def hub_for(changes: int) -> Hub:
    return Hub(bytes_max=changes * (400 + OVERHEAD_BYTES), fields_of=no_fields)


def taken(cursor: Cursor) -> list[int]:
    changes = cursor.take()
    assert changes is not None
    return [change.row.revision for change in changes]


def test_a_cursor_sees_each_later_change_of_its_noun_once_and_in_order() -> None:
    hub = hub_for(1000)
    hub.apply(rows(1, 5))
    with hub.cursor(ALL, 5) as cursor:
        hub.apply(rows(6, 8))
        hub.apply([row(9, kind=OPERATION), row(10)])
        assert taken(cursor) == [6, 7, 8, 10]
        assert taken(cursor) == []
        assert hub.revision == cursor.position == 10


def test_a_cursor_of_a_project_sees_no_other_and_one_of_any_noun_is_served() -> None:
    hub = hub_for(1000)
    mixed = [row(1), row(2, project_id="q"), row(3, kind=HOST, project_id=""), row(4, kind=HOST)]
    with hub.cursor((INSTANCE, "q"), 0) as ours, hub.cursor((HOST, ""), 0) as hosts:
        hub.apply(mixed)
        assert taken(ours) == [2]
        assert taken(hosts) == [3, 4]


def test_a_cursor_goes_on_from_any_revision_that_the_ring_holds() -> None:
    hub = hub_for(100)
    hub.apply(rows(1, 200))
    assert (hub.forgotten, hub.revision) == (100, 200)
    for position in (100, 150, 199, 200):
        with hub.cursor(ALL, position) as cursor:
            assert taken(cursor) == list(range(position + 1, 201))
    with hub.cursor(ALL, 99) as too_old:
        assert too_old.take() is None


def test_a_cursor_that_the_ring_has_passed_is_cut_off_and_a_quick_one_is_not() -> None:
    hub = hub_for(10)
    with hub.cursor(ALL, 0) as slow, hub.cursor(ALL, 0) as quick:
        assert taken(slow) == []
        for revision in range(1, 12):
            hub.apply([row(revision)])
            assert taken(quick) == [revision]
        with pytest.raises(NoCapacity) as cut:
            slow.take()
        assert cut.value.reason == "WATCH_TOO_SLOW"
        assert taken(quick) == []


async def test_one_who_sleeps_is_not_slow_however_much_happens_to_others() -> None:
    hub = hub_for(10)
    with hub.cursor((INSTANCE, "q"), 0) as cursor:
        assert taken(cursor) == []
        asleep = asyncio.ensure_future(cursor.sleep())
        await asyncio.sleep(0)
        for revision in range(1, 100):
            hub.apply(
                [
                    row(revision),
                ]
            )
            await asyncio.sleep(0)
        assert not asleep.done()
        assert hub.lag_revisions() == 0
        hub.apply([row(100), row(101, project_id="q"), row(102)])
        await asleep
        assert cursor.position == 100
        assert hub.lag_revisions() == 2
        assert taken(cursor) == [101]


async def test_one_who_stops_waiting_has_seen_all_there_is() -> None:
    hub = hub_for(10)
    with hub.cursor((INSTANCE, "q"), 0) as cursor:
        taken(cursor)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await cursor.sleep()
        asleep = asyncio.ensure_future(cursor.sleep())
        await asyncio.sleep(0)
        hub.apply(rows(1, 50))
        asleep.cancel()
        await asyncio.wait([asleep])
        assert cursor.position == 50
        assert taken(cursor) == []
        hub.apply([row(51, project_id="q")])
        assert taken(cursor) == [51]


async def test_what_was_read_from_the_log_ahead_of_the_hub_is_not_told_again() -> None:
    hub = hub_for(10)
    hub.apply(rows(1, 5))
    with hub.cursor(ALL, 5) as cursor:
        cursor.position = 8
        assert taken(cursor) == []
        asleep = asyncio.ensure_future(cursor.sleep())
        await asyncio.sleep(0)
        hub.apply(rows(6, 7))
        await asleep
        assert taken(cursor) == []
        hub.apply(rows(8, 9))
        assert taken(cursor) == [9]


def test_one_take_is_bounded_in_number_and_size() -> None:
    hub = hub_for(10_000)
    with hub.cursor(ALL, 0) as cursor:
        hub.apply(rows(1, 1000))
        seen: list[int] = []
        while some := taken(cursor):
            assert len(some) <= TAKEN_MAX
            seen += some
        assert seen == list(range(1, 1001))
        large = [Row(INSTANCE, "i", "p", 1, n, 0, b"x" * 100_000) for n in range(1001, 1011)]
        hub.apply(large)
        assert taken(cursor) == [1001, 1002, 1003]


def test_a_filter_reads_the_fields_of_a_change_once_whatever_the_number_of_watchers() -> None:
    reads = []

    def counted(kind: ResourceKind, body: bytes) -> Mapping[str, str]:
        reads.append(body)
        return {"name": body.decode()}

    hub = Hub(bytes_max=1 << 20, fields_of=counted)
    hub.apply([Row(INSTANCE, "i", "p", 1, 1, 0, b"a")])
    for _ in range(50):
        with hub.cursor(ALL, 0) as cursor:
            (change,) = cursor.take() or []
            change.seen(())
            change.seen((Condition("name", ("b",)),))
    assert reads == [b"a"]


async def test_who_waits_is_woken_by_the_end() -> None:
    hub = hub_for(10)
    with hub.cursor(ALL, 0) as cursor:
        asleep = asyncio.ensure_future(cursor.sleep())
        await asyncio.sleep(0)
        hub.close()
        await asleep
        with pytest.raises(Unavailable) as ended:
            cursor.take()
        assert ended.value.reason == "API_STOPPING"
    with hub.cursor(ALL, 0) as late, pytest.raises(Unavailable):
        late.take()


async def test_a_mailbox_gets_every_change_of_its_row_and_of_no_other() -> None:
    hub = hub_for(10)
    with hub.mailbox(INSTANCE, "a") as mailbox:
        waiting = asyncio.ensure_future(mailbox.take())
        hub.apply([row(1, "a", HOST), row(2, "a"), row(3, "a")])
        assert (await waiting).revision == 2
        hub.apply([row(4, "a")])
        assert [(await mailbox.take()).revision for _ in range(2)] == [3, 4]
    assert not hub._mailboxes
    hub.close()
    with hub.mailbox(INSTANCE, "a") as mailbox, pytest.raises(Unavailable):
        await mailbox.take()


async def test_a_mailbox_that_nobody_empties_is_cut_off() -> None:
    hub = hub_for(10)
    with hub.mailbox(INSTANCE, "i") as mailbox:
        hub.apply(rows(1, KEPT_MAX + 5))
        got = [(await mailbox.take()).revision for _ in range(KEPT_MAX)]
        assert got == list(range(1, KEPT_MAX + 1))
        with pytest.raises(NoCapacity) as cut:
            await mailbox.take()
        assert cut.value.reason == "WATCH_TOO_SLOW"


async def test_a_mailbox_that_was_full_once_has_no_gap_in_what_is_taken() -> None:
    """Also where it is emptied while more comes."""
    hub = hub_for(10)
    with hub.mailbox(INSTANCE, "i") as mailbox:
        hub.apply(rows(1, KEPT_MAX + 5))
        got = [(await mailbox.take()).revision for _ in range(10)]
        hub.apply(rows(KEPT_MAX + 6, KEPT_MAX + 20))
        got += [(await mailbox.take()).revision for _ in range(KEPT_MAX - 10)]
        assert got == list(range(1, KEPT_MAX + 1))
        with pytest.raises(NoCapacity):
            await mailbox.take()


async def test_one_project_cannot_have_all_watches() -> None:
    hub = hub_for(10)
    with contextlib.ExitStack() as stack:
        for _ in range(WATCHES_MAX):
            stack.enter_context(hub.cursor(ALL, 0, "greedy"))
        with pytest.raises(NoCapacity) as refused:
            stack.enter_context(hub.cursor(ALL, 0, "greedy"))
        assert refused.value.reason == "TOO_MANY_WATCHES"
        stack.enter_context(hub.cursor(ALL, 0, "modest"))
    with hub.cursor(ALL, 0, "greedy"):
        assert sum(hub.watchers().values()) == 1


async def test_one_project_cannot_have_all_waits() -> None:
    hub = hub_for(10)
    with contextlib.ExitStack() as stack:
        for _ in range(WAITS_MAX):
            stack.enter_context(hub.mailbox(INSTANCE, "a", "greedy"))
        with pytest.raises(NoCapacity) as refused:
            stack.enter_context(hub.mailbox(INSTANCE, "a", "greedy"))
        assert refused.value.reason == "TOO_MANY_WATCHES"
        assert refused.value.retry_after_s
        stack.enter_context(hub.mailbox(INSTANCE, "a", "modest"))
    with hub.mailbox(INSTANCE, "a", "greedy"):
        pass


async def test_another_history_ends_who_listens_and_lets_others_begin() -> None:
    hub = hub_for(10)
    hub.apply(rows(1, 4))
    with (
        hub.cursor(ALL, 3) as cursor,
        hub.cursor(ALL, 4) as second,
        hub.mailbox(INSTANCE, "a") as mailbox,
    ):
        asleep = asyncio.ensure_future(second.sleep())
        await asyncio.sleep(0)
        hub.forget()
        with hub.cursor(ALL, 4) as too_early:
            hub.begin(2, "another")
            await asleep
            for ended in (cursor, second, too_early):
                with pytest.raises(Unavailable) as refused:
                    ended.take()
                assert refused.value.reason == "HISTORY_CHANGED"
            with pytest.raises(Unavailable):
                await mailbox.take()
    with hub.cursor(ALL, 2) as fresh:
        assert taken(fresh) == []
        hub.apply([row(3)])
        assert taken(fresh) == [3]
    assert (hub.revision, hub.history_id) == (3, "another")


def test_the_hub_counts_its_watchers_and_how_far_they_are_behind() -> None:
    hub = hub_for(10)
    with hub.cursor(ALL, 0), hub.cursor(ALL, 0) as quick, hub.cursor((HOST, ""), 0) as other:
        assert hub.watchers() == {INSTANCE: 2, HOST: 1}
        assert (hub.lag_revisions(), hub.lag_s()) == (0, 0.0)
        hub.apply(rows(1, 3))
        taken(quick)
        taken(other)
        assert hub.lag_revisions() == 3
        assert hub.lag_s() > 0
    assert hub.watchers() == {}
    assert hub.lag_revisions() == 0
