"""The control plane's one door for hosts: states and blobs, over gRPC.

Owns deadlines and the translation of lost calls into CloudErrors. Flows retry.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from stead.internal.v1 import compute_pb2

from services.compute.edges import messages
from services.compute.edges.replicas import Door
from services.compute.flows.ports import Saying, StateStream, Telling
from services.domain.errors import Broken, CloudError, Unavailable
from services.runtime import rpc

BLOB_S_MAX = 4 * 3600.0
CHUNK_S_MAX = 60.0

Result = TypeVar("Result")
StatesCall = grpc.aio.StreamStreamCall[
    compute_pb2.StreamInstanceStatesRequest, compute_pb2.StreamInstanceStatesResponse
]


class GrpcIngress:
    """Opens the state streams of one host."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @asynccontextmanager
    async def open_states(self) -> AsyncIterator[StateStream]:
        """A stream of its own; leaving cancels it, and losing it turns to the next replica."""
        call = self._door.stub.StreamInstanceStates()
        try:
            yield _GrpcStateStream(call)
        except (CloudError, TimeoutError):
            self._door.turn()
            raise
        finally:
            call.cancel()


class _GrpcStateStream:
    def __init__(self, call: StatesCall) -> None:
        self._call = call
        # A call takes one write at a time, and a beat may fall into an observation's.
        self._turn = asyncio.Lock()

    async def send(self, saying: Saying) -> None:
        async with self._turn:
            await translated(self._call.write(messages.saying_to_wire(saying)))

    async def receive(self) -> Telling:
        message = await read(self._call.read())
        if message is None:
            raise Unavailable("STREAM_ENDED", "the control plane ended the stream")
        try:
            return messages.telling_from_wire(message)
        except ValueError as error:
            raise Broken("TELLING_UNKNOWN", f"the host was told {error}") from error


class GrpcBlobs:
    """Reads blobs for one host."""

    def __init__(self, door: Door, host_id: str) -> None:
        self._door = door
        self._host_id = host_id

    async def read_blob(
        self, digest: str, offset: int, *, incarnation: int
    ) -> AsyncIterator[bytes]:
        """The blob's bytes from `offset` on, each chunk within a minute."""
        request = compute_pb2.FetchBlobRequest(
            host_id=self._host_id, incarnation=incarnation, digest=digest, offset=offset
        )
        call = self._door.stub.FetchBlob(request, timeout=BLOB_S_MAX)
        try:
            while True:
                async with asyncio.timeout(CHUNK_S_MAX):
                    message = await read(call.read())
                if message is None:
                    return
                yield message.chunk
        finally:
            call.cancel()


async def read(call: Awaitable[object]) -> Any:
    """The next message, None at the end."""
    message = await translated(call)
    return None if message is grpc.aio.EOF else message


async def translated(call: Awaitable[Result]) -> Result:
    """What it answers, with a lost call as a CloudError."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise rpc.error_of(error) from error
    except asyncio.InvalidStateError as error:
        raise Unavailable("STREAM_ENDED", "the control plane ended the stream") from error
