"""One stream, many rounds: beside each other, each answered once, and an end that loses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from stead.internal.v1.conductor_pb2 import ConverseRequest as Request
from stead.internal.v1.conductor_pb2 import ConverseResponse as Response

from services.conductor.edges.conversation import ROUNDS_MAX, converse


class Api:
    """The other side: says rounds when it is told to, and says its last when it is closed."""

    def __init__(self) -> None:
        self._rounds: asyncio.Queue[Request | None] = asyncio.Queue()
        self.heard = 0

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self._rounds.put_nowait(Request(number=number))

    def close(self) -> None:
        self._rounds.put_nowait(None)

    async def rounds(self) -> AsyncIterator[Request]:
        while (round_ := await self._rounds.get()) is not None:
            self.heard += 1
            yield round_


class Work:
    """Rounds that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self._ends: dict[int, asyncio.Event] = {}

    def end(self, *numbers: int) -> None:
        for number in numbers:
            self._ends.setdefault(number, asyncio.Event()).set()

    async def __call__(self, round_: Request) -> Response:
        self.begun.append(round_.number)
        await self._ends.setdefault(round_.number, asyncio.Event()).wait()
        return Response(number=round_.number)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_slow_round_does_not_keep_the_others_waiting() -> None:
    """Answers come as rounds end, whatever their order."""
    api, work = Api(), Work()
    answers = converse(api.rounds(), work, asyncio.Event())
    api.say(1, 2, 3)
    work.end(3)
    async with asyncio.timeout(60):
        assert (await anext(answers)).number == 3
        work.end(1)
        assert (await anext(answers)).number == 1
        api.say(4)
        work.end(4)
        assert (await anext(answers)).number == 4
        work.end(2)
        api.close()
        assert [answer.number async for answer in answers] == [2]


async def test_what_was_begun_is_answered_after_the_last_word() -> None:
    api, work = Api(), Work()
    answers = converse(api.rounds(), work, asyncio.Event())
    api.say(1, 2)
    api.close()
    rest = asyncio.create_task(numbers(answers))
    await settle()
    assert not rest.done()
    work.end(1, 2)
    async with asyncio.timeout(60):
        assert sorted(await rest) == [1, 2]


async def test_a_conductor_that_ends_answers_what_was_begun_and_hears_no_more() -> None:
    """Its api need not close first: the stream ends well, and the next conductor is asked."""
    api, work, closing = Api(), Work(), asyncio.Event()
    answers = converse(api.rounds(), work, closing)
    api.say(1)
    rest = asyncio.create_task(numbers(answers))
    await settle()
    closing.set()
    await settle()
    api.say(2)
    work.end(1, 2)
    async with asyncio.timeout(60):
        assert await rest == [1]
    assert work.begun == [1]


async def test_no_more_rounds_are_in_flight_than_are_allowed() -> None:
    api, work = Api(), Work()
    answers = converse(api.rounds(), work, asyncio.Event())
    api.say(*range(ROUNDS_MAX + 10))
    rest = asyncio.create_task(numbers(answers))
    for _ in range(10):
        await settle()
    assert len(work.begun) == ROUNDS_MAX
    work.end(*range(ROUNDS_MAX + 10))
    api.close()
    async with asyncio.timeout(60):
        assert sorted(await rest) == list(range(ROUNDS_MAX + 10))


async def test_who_does_not_take_its_answers_is_not_heard_any_further() -> None:
    """What is kept for it is bounded: an answer counts until it is written."""
    api, work = Api(), Work()
    api.say(*range(ROUNDS_MAX + 10))
    work.end(*range(ROUNDS_MAX + 10))
    answers = converse(api.rounds(), work, asyncio.Event())
    async with asyncio.timeout(60):
        first = (await anext(answers)).number
        for _ in range(20):
            await settle()
        assert len(work.begun) == ROUNDS_MAX
        api.close()
        assert sorted([first, *await numbers(answers)]) == list(range(ROUNDS_MAX + 10))


async def test_a_stream_that_breaks_ends_its_rounds() -> None:
    """Nobody waits for their answers any more; what was committed is committed."""
    api, work = Api(), Work()
    api.say(1)
    rest = asyncio.create_task(numbers(converse(api.rounds(), work, asyncio.Event())))
    await settle()
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await settle()
    assert not [task for task in others if "conversation" in repr(task) and not task.done()]


async def test_what_hearing_raises_ends_the_stream() -> None:
    async def broken() -> AsyncIterator[Request]:
        yield Request(number=1)
        raise ConnectionError("gone")

    work = Work()
    work.end(1)
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(60):
            await numbers(converse(broken(), work, asyncio.Event()))


async def numbers(answers: AsyncIterator[Response]) -> list[int]:
    return [answer.number async for answer in answers]
