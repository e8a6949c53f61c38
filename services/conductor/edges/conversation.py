"""Converse: many rounds of one api on one stream, in flight beside each other.

Owns the order of things: rounds are begun as they come, answered as they end, written one after
another. Does not own what a round does.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from stead.internal.v1 import conductor_pb2

# More than an api has in flight, less than what could weigh a conductor down. An answer counts
# until it is written: who asks and does not listen is not heard any further.
ROUNDS_MAX = 64

Answer = Callable[[conductor_pb2.ConverseRequest], Awaitable[conductor_pb2.ConverseResponse]]


async def converse(
    rounds: AsyncIterator[conductor_pb2.ConverseRequest], answer: Answer, closing: asyncio.Event
) -> AsyncIterator[conductor_pb2.ConverseResponse]:
    """The answers of all rounds until the other side has said its last, or `closing` is set: then
    the rounds that were begun are still answered. `answer` does not raise.
    """
    answers: asyncio.Queue[conductor_pb2.ConverseResponse | None] = asyncio.Queue()
    at_work: set[asyncio.Task[None]] = set()
    free = asyncio.Semaphore(ROUNDS_MAX)

    async def work(round_: conductor_pb2.ConverseRequest) -> None:
        answers.put_nowait(await answer(round_))

    async def listen() -> None:
        async for round_ in rounds:
            await free.acquire()
            task = asyncio.create_task(work(round_))
            at_work.add(task)
            task.add_done_callback(at_work.discard)

    async def attend() -> None:
        try:
            await _until(closing, asyncio.create_task(listen()))
            await asyncio.gather(*at_work)
        finally:
            answers.put_nowait(None)

    attending = asyncio.create_task(attend())
    try:
        while (told := await answers.get()) is not None:
            yield told
            free.release()
        await attending
    finally:
        for task in (attending, *at_work):
            task.cancel()


async def _until(closing: asyncio.Event, listening: "asyncio.Task[None]") -> None:
    """Listens until there is no more to hear, or `closing` is set. Raises what listening raises."""
    closed = asyncio.create_task(closing.wait())
    try:
        await asyncio.wait([listening, closed], return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
    finally:
        for task in (listening, closed):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
