"""The one stream to the conductor: rounds go out under numbers, answers come back in any order.

Owns the stream: it is opened by the first round that has none, and one that breaks fails the rounds
in flight on it. Writes take turns: two at once break a stream. Does not own what a round says.
"""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc

from services.domain.errors import Unavailable
from services.runtime import rpc

Stream = grpc.aio.StreamStreamCall[conductor_pb2.ConverseRequest, conductor_pb2.ConverseResponse]


class Conversation:
    """Asks rounds. `run` must run for any of them to be answered."""

    def __init__(self, stub: conductor_pb2_grpc.ConductorServiceAsyncStub) -> None:
        self._stub = stub
        self._stream: Stream | None = None
        self._opened = asyncio.Event()
        self._writing = asyncio.Lock()
        self._number = 0
        self._heard = 0
        self._waiting: dict[int, asyncio.Future[conductor_pb2.ConverseResponse]] = {}

    async def run(self) -> None:
        """Hears what comes on the stream, and on the next one when it has ended."""
        while True:
            await self._opened.wait()
            stream = self._stream
            self._opened.clear()
            if stream is not None:
                try:
                    await self._hear(stream)
                finally:
                    self._end(stream)

    async def ask(
        self, round_: conductor_pb2.ConverseRequest, timeout_s: float
    ) -> conductor_pb2.ConverseResponse:
        """The answer to one round. Raises what the whole round was refused with, or Unavailable
        (PEER_UNREACHABLE) where none comes in time; it may have been carried out all the same.
        """
        self._number += 1
        number = round_.number = self._number
        stream, heard = self._current(), self._heard
        waiting: asyncio.Future[conductor_pb2.ConverseResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self._waiting[number] = waiting
        try:
            async with asyncio.timeout(timeout_s):
                await self._write(stream, round_)
                answer = await waiting
        except TimeoutError:
            if self._heard == heard:
                # Not a slow round but a silent peer: the next round shall not wait for it as well.
                self._end(stream)
            raise _unreachable() from None
        finally:
            del self._waiting[number]
            waiting.cancel()
        if answer.HasField("error"):
            error = answer.error
            raise rpc.error_from(
                error.code, error.reason, error.message, metadata=dict(error.metadata)
            )
        return answer

    def _current(self) -> Stream:
        if self._stream is None:
            self._stream = self._stub.Converse()
            self._opened.set()
        return self._stream

    async def _write(self, stream: Stream, round_: conductor_pb2.ConverseRequest) -> None:
        try:
            async with self._writing:
                await stream.write(round_)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The one that hears knows as well, and tells all who wait.
            self._end(stream)
            raise _unreachable() from None
        except asyncio.CancelledError:
            # Another round has ended the stream, or this one is not wanted any more.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise _unreachable() from None

    async def _hear(self, stream: Stream) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            async for answer in stream:
                self._heard += 1
                waiting = self._waiting.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError

    def _end(self, stream: Stream) -> None:
        stream.cancel()
        if self._stream is not stream:
            return
        self._stream = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_unreachable())
                waiting.exception()


def _unreachable() -> Unavailable:
    return Unavailable("PEER_UNREACHABLE", "the conductor did not answer in time")
