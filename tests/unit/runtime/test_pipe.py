"""A pipe hands over piece by piece, and its end is heard at both sides."""

import asyncio

import pytest

from services.runtime.pipe import Pipe


async def test_every_piece_comes_once_and_in_order_and_who_puts_waits_for_who_takes():
    pipe: Pipe[int] = Pipe()
    put: list[int] = []

    async def fill() -> None:
        for number in range(100):
            assert await pipe.put(number)
            put.append(number)
        pipe.close()

    filling = asyncio.ensure_future(fill())
    for number in range(100):
        assert await pipe.take() == number
        assert len(put) <= number + 2
    assert await pipe.take() is None
    await filling


async def test_a_piece_that_was_put_comes_before_the_error_of_the_end():
    pipe: Pipe[bytes] = Pipe()
    assert await pipe.put(b"last")
    pipe.close(ValueError("why"))
    pipe.close()
    assert await pipe.take() == b"last"
    for _ in range(2):
        with pytest.raises(ValueError, match="why"):
            await pipe.take()


async def test_the_end_frees_who_waits_to_put_and_drops_the_piece():
    pipe: Pipe[int] = Pipe()
    await pipe.put(1)
    waiting = asyncio.ensure_future(pipe.put(2))
    await asyncio.sleep(0)
    pipe.close()
    assert await waiting is False
    assert await pipe.put(3) is False
    assert [await pipe.take(), await pipe.take()] == [1, None]


async def test_who_is_cancelled_while_it_waits_takes_nothing_with_it():
    pipe: Pipe[int] = Pipe()
    taking = asyncio.ensure_future(pipe.take())
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait({taking})
    await pipe.put(1)
    putting = asyncio.ensure_future(pipe.put(2))
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait({putting})
    assert await pipe.take() == 1
    await pipe.put(3)
    assert await pipe.take() == 3
