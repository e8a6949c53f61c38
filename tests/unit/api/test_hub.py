"""The hub of changes: order, bounds, and who is cut off."""

import asyncio

import pytest

from services.api.flows.follow_changes import ROW_OVERHEAD_BYTES, TAKEN_MAX, Hub
from services.api.logic.row import Row
from services.domain.errors import NoCapacity, Unavailable
from services.domain.kinds import ResourceKind


def row(revision: int, row_id: str = "i", kind: ResourceKind = ResourceKind.INSTANCE) -> Row:
    return Row(kind, row_id, "p", version=revision, revision=revision, epoch=0, body=b"x" * 600)


def rows(first: int, last: int) -> list[Row]:
    return [row(revision) for revision in range(first, last + 1)]


def hub_for(changes: int) -> Hub:
    return Hub(bytes_max=changes * (600 + ROW_OVERHEAD_BYTES))


def test_a_cursor_sees_each_later_change_once_and_in_order() -> None:
    hub = hub_for(1000)
    hub.apply(rows(1, 5))
    cursor = hub.cursor()
    hub.apply(rows(6, 8))
    hub.apply([row(9, kind=ResourceKind.OPERATION), row(10)])
    assert [r.revision for r in cursor.take()] == [6, 7, 8, 10]
    assert cursor.take() == []
    assert hub.revision == 10


def test_a_cursor_can_stop_at_a_revision() -> None:
    hub = hub_for(1000)
    cursor = hub.cursor()
    hub.apply(rows(1, 6))
    assert [r.revision for r in cursor.take(4)] == [1, 2, 3, 4]
    assert cursor.take(4) == []
    assert [r.revision for r in cursor.take()] == [5, 6]


def test_a_cursor_that_the_ring_has_passed_is_cut_off_and_a_quick_one_is_not() -> None:
    hub = hub_for(10)
    slow, quick = hub.cursor(), hub.cursor()
    for revision in range(1, 12):
        hub.apply([row(revision)])
        quick.take()
    with pytest.raises(NoCapacity) as cut:
        slow.take()
    assert cut.value.reason == "WATCH_TOO_SLOW"
    assert quick.take() == []


def test_one_take_is_bounded() -> None:
    hub = hub_for(10_000)
    cursor = hub.cursor()
    hub.apply(rows(1, 1000))
    taken = []
    while some := cursor.take():
        assert len(some) <= TAKEN_MAX
        taken += some
    assert taken == rows(1, 1000)


async def test_who_waits_is_woken_by_a_change_and_by_the_end() -> None:
    hub = hub_for(10)
    cursor = hub.cursor()
    waiting = asyncio.ensure_future(cursor.next())
    await asyncio.sleep(0)
    hub.apply([row(1)])
    assert await waiting == [row(1)]
    waiting = asyncio.ensure_future(cursor.next())
    await asyncio.sleep(0)
    hub.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await hub.cursor().next()


async def test_a_mailbox_gets_the_newest_change_of_its_row_and_of_no_other() -> None:
    hub = hub_for(10)
    with hub.mailbox("a") as mailbox:
        waiting = asyncio.ensure_future(mailbox.take())
        hub.apply([row(1, "b"), row(2, "a"), row(3, "a")])
        assert (await waiting).revision == 3
        hub.apply([row(4, "a")])
        assert (await mailbox.take()).revision == 4
    assert not hub._mailboxes
    hub.close()
    with hub.mailbox("a") as mailbox, pytest.raises(Unavailable):
        await mailbox.take()


async def test_another_history_ends_who_listens_and_lets_others_begin() -> None:
    hub = hub_for(10)
    hub.apply(rows(1, 3))
    cursor = hub.cursor()
    hub.apply([row(4)])
    waiting = asyncio.ensure_future(hub.cursor().next())
    with hub.mailbox("a") as mailbox:
        await asyncio.sleep(0)
        hub.forget()
        too_early = hub.cursor()
        hub.begin(2)
        for ended in (waiting, mailbox.take(), too_early.next(), cursor.next()):
            with pytest.raises(Unavailable) as refused:
                await ended
            assert refused.value.reason == "HISTORY_CHANGED"
    fresh = hub.cursor()
    assert fresh.take() == []
    hub.apply([row(3)])
    assert fresh.take() == [row(3)]
    assert hub.revision == 3
