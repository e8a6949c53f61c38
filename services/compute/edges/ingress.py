"""The control plane's one door for hosts: states, blobs and answers, over gRPC.

Owns channels, deadlines and the translation of lost calls into CloudErrors. Flows retry.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from stead.internal.v1 import compute_pb2, compute_pb2_grpc

from services.compute.edges import messages
from services.compute.flows.ports import ConsoleLog, Question, Saying, StateStream, Telling
from services.compute.logic.observation import Failure
from services.domain.errors import Broken, Unavailable
from services.runtime import rpc

CHUNK_BYTES = 64 * 1024
BLOB_S_MAX = 4 * 3600.0
CHUNK_S_MAX = 60.0
REPLICAS_MAX = 16

Result = TypeVar("Result")
StatesCall = grpc.aio.StreamStreamCall[
    compute_pb2.StreamInstanceStatesRequest, compute_pb2.StreamInstanceStatesResponse
]


class GrpcIngress:
    """Opens state streams on one channel, which many hosts may share."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = compute_pb2_grpc.ComputeIngressServiceStub(channel)

    @asynccontextmanager
    async def open_states(self) -> AsyncIterator[StateStream]:
        """A stream of its own; leaving cancels the call."""
        call = self._stub.StreamInstanceStates()
        try:
            yield _GrpcStateStream(call)
        finally:
            call.cancel()


class _GrpcStateStream:
    def __init__(self, call: StatesCall) -> None:
        self._call = call
        # A call takes one write at a time, and a beat may fall into an observation's.
        self._turn = asyncio.Lock()

    async def send(self, saying: Saying) -> None:
        async with self._turn:
            await _translated(self._call.write(messages.saying_to_wire(saying)))

    async def receive(self) -> Telling:
        message = await _read(self._call.read())
        if message is None:
            raise Unavailable("STREAM_ENDED", "the control plane ended the stream")
        try:
            return messages.telling_from_wire(message)
        except ValueError as error:
            raise Broken("TELLING_UNKNOWN", f"the host was told {error}") from error


class GrpcBlobs:
    """Reads blobs for one host."""

    def __init__(self, channel: grpc.aio.Channel, host_id: str) -> None:
        self._stub = compute_pb2_grpc.ComputeIngressServiceStub(channel)
        self._host_id = host_id

    async def read_blob(
        self, digest: str, offset: int, *, incarnation: int
    ) -> AsyncIterator[bytes]:
        """The blob's bytes from `offset` on, each chunk within a minute."""
        request = compute_pb2.FetchBlobRequest(
            host_id=self._host_id, incarnation=incarnation, digest=digest, offset=offset
        )
        call = self._stub.FetchBlob(request, timeout=BLOB_S_MAX)
        try:
            while True:
                async with asyncio.timeout(CHUNK_S_MAX):
                    message = await _read(call.read())
                if message is None:
                    return
                yield message.chunk
        finally:
            call.cancel()


class GrpcAttachments:
    """Answers questions; keeps a channel to each of the last few replicas that asked."""

    def __init__(self, target: str, channel: grpc.aio.Channel) -> None:
        self._target = target
        self._channel = channel
        self._others: OrderedDict[str, grpc.aio.Channel] = OrderedDict()

    async def answer(self, question: Question, content: ConsoleLog | Failure) -> None:
        """Sends ticket, bytes and their description, or the failure, and waits until the replica
        has it.
        """
        channel = await self._channel_to(question.endpoint)
        call = compute_pb2_grpc.ComputeIngressServiceStub(channel).Attach()
        try:
            for part in _parts(question.ticket, content):
                await _translated(call.write(part))
            await _translated(call.done_writing())
            while await _read(call.read()) is not None:
                pass
        finally:
            call.cancel()

    async def close(self) -> None:
        """Closes the channels that it opened."""
        for channel in self._others.values():
            await channel.close()

    async def _channel_to(self, target: str) -> grpc.aio.Channel:
        if target in ("", self._target):
            return self._channel
        if target not in self._others:
            self._others[target] = rpc.channel(target)
            if len(self._others) > REPLICAS_MAX:
                await self._others.popitem(last=False)[1].close()
        self._others.move_to_end(target)
        return self._others[target]


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


async def _read(call: Awaitable[object]) -> Any:
    """The next message, None at the end."""
    message = await _translated(call)
    return None if message is grpc.aio.EOF else message


async def _translated(call: Awaitable[Result]) -> Result:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise rpc.error_of(error) from error
    except asyncio.InvalidStateError as error:
        raise Unavailable("STREAM_ENDED", "the control plane ended the stream") from error
