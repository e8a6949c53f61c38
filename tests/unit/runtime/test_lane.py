"""A lane gives every caller its own answer, in rounds, in turns, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.errors import NoCapacity, Unavailable
from services.runtime.lane import WAITING_ROUNDS, Lane


class Rounds:
    """Answers each item doubled and remembers the rounds; waits while `gate` is closed."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, items: Sequence[int]) -> list[int | Exception]:
        """One round: negative items fail alone, a zero fails the whole round."""
        await self.gate.wait()
        self.rounds.append(list(items))
        if 0 in items:
            raise OSError("the round failed")
        return [ValueError(item) if item < 0 else item * 2 for item in items]


async def run(lane: Lane[int, int]) -> asyncio.Task[None]:
    """The lane at work."""
    return asyncio.create_task(lane.run())


async def test_what_arrives_during_a_round_goes_together_in_the_next() -> None:
    """One item alone does not wait; those that came meanwhile share one round."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test")
    task = await run(lane)
    rounds.gate.clear()
    first = asyncio.create_task(lane.submit(1))
    await asyncio.sleep(0.01)
    rest = [asyncio.create_task(lane.submit(n)) for n in range(2, 6)]
    await asyncio.sleep(0.01)
    rounds.gate.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8, 10]
    assert rounds.rounds == [[1], [2, 3, 4, 5]]
    task.cancel()


async def test_turns_are_taken_key_by_key() -> None:
    """A key with many items does not hold up one with a single item."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test", items_max=3)
    for item in (1, 2, 3, 4):
        lane.put(item, "many")
    last = lane.put(9, "one")
    task = await run(lane)
    await last
    assert 9 in rounds.rounds[0]
    task.cancel()


async def test_an_item_fails_alone_and_a_round_fails_whole() -> None:
    """Each caller gets what is its own."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test")
    good, bad = lane.put(1), lane.put(-1)
    task = await run(lane)
    assert await good == 2
    with pytest.raises(ValueError, match="-1"):
        await bad
    with pytest.raises(OSError, match="round failed"):
        await lane.submit(0)
    assert await lane.submit(5) == 10
    task.cancel()


async def test_a_full_lane_says_so_at_once() -> None:
    """Bounded, with a time to try again."""
    lane: Lane[int, int] = Lane(Rounds().send, name="test", waiting_max=2)
    lane.put(1)
    lane.put(2)
    with pytest.raises(NoCapacity) as refused:
        lane.put(3)
    assert refused.value.reason == "LANE_FULL"
    assert refused.value.retry_after_s


async def test_an_item_whose_caller_has_gone_is_not_sent() -> None:
    """Before it is sent it costs nothing to drop it."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test")
    lane.put(1).cancel()
    kept = lane.put(2)
    task = await run(lane)
    assert await kept == 4
    assert rounds.rounds == [[2]]
    task.cancel()


async def test_a_lane_that_ends_lets_nobody_wait() -> None:
    """Whoever waits is cancelled with it."""
    rounds = Rounds()
    rounds.gate.clear()
    lane: Lane[int, int] = Lane(rounds.send, name="test")
    task = await run(lane)
    in_flight = lane.put(1)
    await asyncio.sleep(0.01)
    waiting = lane.put(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert in_flight.cancelled()
    assert waiting.cancelled()


async def test_the_smaller_priority_goes_first_and_keys_take_turns_within_it() -> None:
    """What is more urgent does not wait for what came before."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test", items_max=3)
    for item in (1, 2, 3):
        lane.put(item, "creates", priority=2)
    lane.put(4, "a", priority=1)
    lane.put(5, "a", priority=1)
    lane.put(6, "b", priority=1)
    lane.put(7, priority=0)
    last = lane.put(8, priority=3)
    task = await run(lane)
    await last
    assert rounds.rounds == [[7, 4, 6], [5, 1, 2], [3, 8]]
    task.cancel()


async def test_a_round_ends_where_its_bytes_end_and_a_larger_item_goes_alone() -> None:
    """Nobody passes an item that did not fit."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test", bytes_max=100)
    sizes = {1: 60, 2: 40, 3: 1, 4: 500, 5: 1}
    answers = [lane.put(item, size_bytes=size) for item, size in sizes.items()]
    task = await run(lane)
    await asyncio.gather(*answers)
    assert rounds.rounds == [[1, 2], [3], [4], [5]]
    task.cancel()


async def test_a_lane_that_holds_too_many_bytes_says_so_at_once() -> None:
    """Few items can be too much as well; what was refused leaves no trace."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test", bytes_max=10)
    lane.put(1, size_bytes=10 * WAITING_ROUNDS)
    with pytest.raises(NoCapacity) as refused:
        lane.put(2, size_bytes=1)
    assert refused.value.reason == "LANE_FULL"
    assert refused.value.retry_after_s
    small = lane.put(3, size_bytes=0)
    task = await run(lane)
    assert await small == 6
    assert await lane.submit(4, size_bytes=10 * WAITING_ROUNDS) == 8
    assert lane.tally.full == 1
    task.cancel()


async def test_an_item_whose_time_has_passed_is_dropped_before_it_is_sent() -> None:
    """Its caller hears that nothing was done; the others go on."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test")
    late = lane.put(1, time_left_s=0)
    kept = lane.put(2, time_left_s=600)
    task = await run(lane)
    assert await kept == 4
    assert rounds.rounds == [[2]]
    with pytest.raises(Unavailable) as dropped:
        await late
    assert dropped.value.reason == "DEADLINE_PASSED"
    assert lane.tally.late == 1
    task.cancel()


async def test_an_item_that_was_sent_is_answered_however_late_it_is() -> None:
    """It may have been done: dropping it then would be a lie."""
    rounds = Rounds()
    rounds.gate.clear()
    lane: Lane[int, int] = Lane(rounds.send, name="test")
    task = await run(lane)
    sent = lane.put(1, time_left_s=0.05)
    await asyncio.sleep(0.1)
    rounds.gate.set()
    assert await sent == 2
    task.cancel()


async def test_who_fills_a_lane_leaves_room_for_others() -> None:
    """A key holds at most what is still free, in items and in bytes."""
    lane: Lane[int, int] = Lane(Rounds().send, name="test", waiting_max=8)
    assert fill(lane, "many") == 4
    assert fill(lane, "more") == 2
    assert fill(lane, "one") == 1
    assert fill(lane, "late") == 1
    heavy: Lane[int, int] = Lane(Rounds().send, name="test", bytes_max=1)
    assert fill(heavy, "many", size_bytes=1) == WAITING_ROUNDS // 2
    assert fill(heavy, "one", size_bytes=1) == WAITING_ROUNDS // 4


async def test_what_is_less_urgent_keeps_nothing_more_urgent_out() -> None:
    """Each priority has its own room."""
    rounds = Rounds()
    lane: Lane[int, int] = Lane(rounds.send, name="test", waiting_max=4, items_max=3)
    assert fill(lane, "") == 4
    urgent = lane.put(9, priority=-1)
    task = await run(lane)
    assert await urgent == 18
    assert rounds.rounds[0] == [9, 1, 1]
    task.cancel()


def fill(lane: Lane[int, int], key: str, *, size_bytes: int = 0) -> int:
    """Puts items of one key until the lane is full for it; how many it took."""
    for count in range(1000):
        try:
            lane.put(1, key, size_bytes=size_bytes)
        except NoCapacity:
            return count
    raise AssertionError("never full")


class Put(NamedTuple):
    """One item of a random queue."""

    key: str
    priority: int
    size_bytes: int
    is_wanted: bool


PUTS = st.lists(
    st.builds(
        Put,
        st.sampled_from("abc"),
        st.integers(0, 2),
        st.integers(0, 120),
        st.sampled_from((True, True, True, False)),
    ),
    max_size=40,
)


@given(puts=PUTS, items_max=st.integers(1, 8))
def test_any_queue_is_sent_once_in_order_within_the_bounds(puts: list[Put], items_max: int) -> None:
    """Random items: nothing is lost, nothing twice, no key overtakes itself, and each round is the
    most urgent that fits.
    """
    rounds = asyncio.run(drained(puts, items_max))
    sent = [number for round_ in rounds for number in round_]
    wanted = [number for number, put in enumerate(puts) if put.is_wanted]
    assert sorted(sent) == wanted
    for round_ in rounds:
        sizes = [puts[number].size_bytes for number in round_]
        assert 1 <= len(round_) <= items_max
        assert len(round_) == 1 or sum(sizes) <= 100
    assert [puts[n].priority for n in sent] == sorted(puts[n].priority for n in sent)
    for key, priority in {(put.key, put.priority) for put in puts}:
        own = [n for n in sent if (puts[n].key, puts[n].priority) == (key, priority)]
        assert own == sorted(own)


@given(puts=PUTS, items_max=st.integers(1, 8))
def test_of_two_keys_neither_is_ahead_by_more_than_a_turn(puts: list[Put], items_max: int) -> None:
    """While both wait, in each priority; nobody has gone."""
    puts = [put._replace(is_wanted=True) for put in puts]
    sent = [number for round_ in asyncio.run(drained(puts, items_max)) for number in round_]
    for priority in range(3):
        keys = [puts[n].key for n in sent if puts[n].priority == priority]
        assert_takes_turns(keys, puts, priority)


def assert_takes_turns(keys: list[str], puts: list[Put], priority: int) -> None:
    """Each key is served again only after every other one that still had something."""
    left = {key: sum(p.key == key and p.priority == priority for p in puts) for key in "abc"}
    since: dict[str, set[str]] = {}
    for key in keys:
        others = {other for other, count in left.items() if count and other != key}
        assert key not in since or others <= since[key]
        left[key] -= 1
        since[key] = set()
        for other, passed in since.items():
            if other != key:
                passed.add(key)


async def drained(puts: list[Put], items_max: int) -> list[list[int]]:
    """The rounds in which a queue that was full from the start is sent."""
    rounds: list[list[int]] = []

    async def send(items: Sequence[int]) -> list[int | Exception]:
        rounds.append(list(items))
        return list(items)

    lane: Lane[int, int] = Lane(send, name="test", items_max=items_max, bytes_max=100)
    answers = [
        lane.put(number, put.key, priority=put.priority, size_bytes=put.size_bytes)
        for number, put in enumerate(puts)
    ]
    for answer, put in zip(answers, puts, strict=True):
        if not put.is_wanted:
            answer.cancel()
    task = asyncio.create_task(lane.run())
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [r for r in results if isinstance(r, int)] == [
        n for n, p in enumerate(puts) if p.is_wanted
    ]
    assert lane.waiting == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return rounds


async def test_a_round_whose_call_is_cancelled_under_it_does_not_end_the_lane() -> None:
    """As gRPC does to a write on a stream that another round has ended."""
    sent: list[int] = []

    async def send(items: Sequence[int]) -> list[int | Exception]:
        sent.extend(items)
        if sent == [1]:
            raise asyncio.CancelledError
        return list(items)

    lane: Lane[int, int] = Lane(send, name="test")
    task = await run(lane)
    with pytest.raises(Unavailable) as refused:
        await lane.submit(1)
    assert refused.value.reason == "PEER_UNREACHABLE"
    assert await lane.submit(2) == 2
    task.cancel()
