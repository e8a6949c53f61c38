"""The roads on which questions are answered: a stream to the replica that asked, its ticket first.

Owns the streams and their deadlines. Does not own the answers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from stead.internal.v1 import compute_pb2, compute_pb2_grpc

from services.compute.edges import messages
from services.compute.edges.ingress import read, translated
from services.compute.edges.replicas import Replicas
from services.compute.flows.console_ports import ConsoleLine, ConsoleLog, Question
from services.compute.logic.observation import Failure
from services.domain.errors import CloudError
from services.runtime.pipe import Pipe

CHUNK_BYTES = 64 * 1024
DIAL_S_MAX = 10.0
LAST_WORD_S_MAX = 10.0

AttachCall = grpc.aio.StreamStreamCall[compute_pb2.AttachRequest, compute_pb2.AttachResponse]


class GrpcAttachments:
    """Dials the replica that asked."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def answer(self, question: Question, content: ConsoleLog | Failure) -> None:
        """Sends ticket, bytes and their description, or the failure, and waits until the replica
        has it.
        """
        call = await self._dial(question)
        try:
            for part in _parts(question.ticket, content):
                await translated(call.write(part))
            await translated(call.done_writing())
            while await read(call.read()) is not None:
                pass
        finally:
            call.cancel()

    @asynccontextmanager
    async def join(self, question: Question) -> AsyncIterator[ConsoleLine]:
        """Sends the ticket; leaving cancels the call."""
        call = await self._dial(question)
        line = _GrpcConsoleLine(call)
        try:
            async with asyncio.timeout(DIAL_S_MAX):
                await translated(call.write(compute_pb2.AttachRequest(ticket=question.ticket)))
            yield line
        finally:
            call.cancel()
            await line.close()

    async def _dial(self, question: Question) -> AttachCall:
        channel = await self._replicas.channel_of(question.endpoint)
        return compute_pb2_grpc.ComputeIngressServiceStub(channel).Attach()


class _GrpcConsoleLine:
    """A cancelled read or write would cancel the call, and with it the last word: both go on in
    tasks of their own.
    """

    def __init__(self, call: AttachCall) -> None:
        self._call = call
        self._typed: Pipe[bytes] = Pipe()
        self._listening = asyncio.ensure_future(self._listen())
        self._writing: asyncio.Future[None] | None = None

    async def open(self, offset: int) -> None:
        await self._write(compute_pb2.AttachRequest(console_opened=offset))

    async def send(self, content: bytes) -> None:
        await self._write(compute_pb2.AttachRequest(chunk=content))

    async def fail(self, failure: Failure) -> None:
        async with asyncio.timeout(LAST_WORD_S_MAX):
            if self._writing is not None:
                await asyncio.shield(self._writing)
            last = compute_pb2.AttachRequest(failure=messages.failure_to_wire(failure))
            await self._write(last)
            await translated(self._call.done_writing())
            while await self._typed.take() is not None:
                pass

    async def receive(self) -> bytes | None:
        return await self._typed.take()

    async def close(self) -> None:
        self._listening.cancel()
        works = {self._listening} if self._writing is None else {self._listening, self._writing}
        await asyncio.gather(*works, return_exceptions=True)

    async def _write(self, part: compute_pb2.AttachRequest) -> None:
        self._writing = asyncio.ensure_future(translated(self._call.write(part)))
        await asyncio.shield(self._writing)

    async def _listen(self) -> None:
        try:
            while (message := await read(self._call.read())) is not None:
                if not await self._typed.put(message.input):
                    return
            self._typed.close()
        except CloudError as error:
            self._typed.close(error)


def _parts(ticket: str, content: ConsoleLog | Failure) -> list[compute_pb2.AttachRequest]:
    parts = [compute_pb2.AttachRequest(ticket=ticket)]
    if isinstance(content, Failure):
        parts.append(compute_pb2.AttachRequest(failure=messages.failure_to_wire(content)))
        return parts
    for start in range(0, len(content.content), CHUNK_BYTES):
        chunk = content.content[start : start + CHUNK_BYTES]
        parts.append(compute_pb2.AttachRequest(chunk=chunk))
    end = compute_pb2.ConsoleLogEnd(start_offset=content.start_offset)
    parts.append(compute_pb2.AttachRequest(console_log_end=end))
    return parts
