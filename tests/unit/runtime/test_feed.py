"""The feed follower applies every change once, in order, whatever the bus does to its messages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.feed import PARKED_MAX, FeedFollower
from tests.examples import examples

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Change:
    """A change is its revision."""

    revision: int


class Log:
    """The change log of a conductor that may be away for its first answers."""

    def __init__(self, head: int, failures: int = 0) -> None:
        self.head = head
        self.failures = failures
        self.reads = 0

    async def read(self, after: int, limit: int) -> tuple[list[Change], int]:
        """A stretch of the log and the head."""
        self.reads += 1
        if self.reads <= self.failures:
            raise OSError("away")
        last = min(self.head, after + min(limit, 3))
        return [Change(r) for r in range(after + 1, last + 1)], self.head


def follower(log: Log, start: int = 0) -> tuple[FeedFollower[Change], list[int]]:
    """A follower and the revisions that it has applied."""
    applied: list[int] = []

    def apply(run: list[Change]) -> None:
        applied.extend(change.revision for change in run)

    return FeedFollower(log.read, apply, start_revision=start), applied


async def follow(
    followed: FeedFollower[Change], messages: list[tuple[list[int], int]], until: int
) -> None:
    """Gives the messages to the follower and waits until it is there."""
    task = asyncio.create_task(followed.run())
    for revisions, head in messages:
        await followed.receive([Change(r) for r in revisions], head)
    await asyncio.wait_for(followed.wait_for(until), PATIENCE_S)
    task.cancel()


MESSAGES = st.lists(
    st.tuples(st.lists(st.integers(1, 12), max_size=5), st.integers(0, 12)), max_size=8
)


@settings(max_examples=examples(60), deadline=None)
@given(MESSAGES, st.integers(0, 4))
def test_any_messages_in_any_order_give_every_change_once(
    messages: list[tuple[list[int], int]], start: int
) -> None:
    """Lost, repeated, early and late messages: the log fills what is missing."""
    log = Log(12)
    followed, applied = follower(log, start)
    asyncio.run(follow(followed, messages, 12))
    assert applied == list(range(start + 1, 13))


async def test_a_follower_that_gets_all_messages_reads_nothing() -> None:
    """The log is for gaps."""
    log = Log(9)
    followed, applied = follower(log)
    await follow(followed, [([1, 2, 3], 3), ([4, 5], 5), ([6, 7, 8, 9], 9)], 9)
    assert applied == list(range(1, 10))
    assert log.reads == 0


async def test_early_messages_are_parked_until_the_late_one_comes() -> None:
    """A message that overtook another does not cause a read if the other comes at once."""
    log = Log(4)
    followed, applied = follower(log)
    await follow(followed, [([3, 4], 4), ([1, 2], 2)], 4)
    assert applied == [1, 2, 3, 4]
    assert log.reads == 0


async def test_a_heartbeat_ahead_shows_a_lost_last_message() -> None:
    """Nothing but the head tells that something was lost."""
    log = Log(5)
    followed, applied = follower(log)
    await follow(followed, [([1, 2], 2), ([], 5)], 5)
    assert applied == [1, 2, 3, 4, 5]
    assert log.reads >= 1


async def test_a_log_that_cannot_be_read_is_read_again() -> None:
    """The conductor may be away for a moment."""
    log = Log(5, failures=2)
    followed, applied = follower(log)
    await follow(followed, [([], 5)], 5)
    assert applied == [1, 2, 3, 4, 5]


async def test_what_could_not_be_applied_is_read_again_and_not_skipped() -> None:
    """A follower that failed once has no gap afterwards."""
    log, applied, failures = Log(3), list[int](), [ValueError("once")]

    def apply(run: list[Change]) -> None:
        if failures:
            raise failures.pop()
        applied.extend(change.revision for change in run)

    followed = FeedFollower(log.read, apply, start_revision=0)
    with pytest.raises(ValueError, match="once"):
        await followed.receive([Change(1), Change(2)], 2)
    await follow(followed, [([3], 3)], 3)
    assert applied == [1, 2, 3]


async def test_while_the_log_is_away_only_so_much_is_parked() -> None:
    """What is dropped is read from the log when it is back."""
    log = Log(PARKED_MAX + 500, failures=1)
    followed, applied = follower(log)
    for first in range(2, log.head + 1, 500):
        await followed.receive(
            [Change(r) for r in range(first, min(first + 500, log.head + 1))], log.head
        )
    assert followed.parked == PARKED_MAX - 1
    await follow(followed, [], log.head)
    assert applied == list(range(1, log.head + 1))
