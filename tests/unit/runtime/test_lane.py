"""A lane gives every caller its own answer, in rounds, in turns, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.domain.errors import NoCapacity
from services.runtime.lane import Lane


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
