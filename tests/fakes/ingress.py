"""The control plane as a compute sees it: a real gRPC server that greets, hears and gives bytes.

Keeps what was heard by the conductor's rules (incarnations, sequences, live claims), in memory.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from stead.internal.v1 import compute_pb2, compute_pb2_grpc

from services.domain.errors import Conflict, Invalid, NotFound, Unavailable
from services.runtime import rpc

Key = tuple[str, int]
Request = compute_pb2.StreamInstanceStatesRequest
Response = compute_pb2.StreamInstanceStatesResponse
CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class FakeHost:
    """What the control plane knows of one host."""

    incarnation: int = 0
    hellos: list[compute_pb2.Hello] = field(default_factory=list)
    claims: dict[Key, compute_pb2.Wanted] = field(default_factory=dict)
    seen: dict[Key, compute_pb2.Observation] = field(default_factory=dict)
    sequences: dict[Key, int] = field(default_factory=dict)
    heard: list[compute_pb2.Observation] = field(default_factory=list)
    inventories: list[compute_pb2.Inventory] = field(default_factory=list)
    beats: int = 0
    view_asks: int = 0
    outgoing: "asyncio.Queue[Response | None]" = field(default_factory=asyncio.Queue)

    @property
    def wanted_revision(self) -> int:
        """The newest revision at which something was wanted."""
        return max((w.revision for w in self.claims.values()), default=0)


class FakeLine:
    """A console for which the control plane asked: what its host sends, and what is typed."""

    def __init__(self) -> None:
        self.opened: int | None = None
        self.content = bytearray()
        self.failure = ""
        self.over = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self._typed: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._changed = asyncio.Condition()

    def type(self, content: bytes) -> None:
        """Sends to the guest."""
        self._typed.put_nowait(content)

    def hang_up(self) -> None:
        """Ends the call, as when the user goes."""
        self._typed.put_nowait(None)

    async def until(self, holds: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Waits until something that came makes `holds` true."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(holds)

    async def carry(
        self, parts: AsyncIterator[compute_pb2.AttachRequest]
    ) -> AsyncIterator[compute_pb2.AttachResponse]:
        """One call of the host."""
        hearing = asyncio.ensure_future(self._hear(parts))
        hearing.add_done_callback(lambda _: self.hang_up())
        try:
            while (typed := await self._typed.get()) is not None:
                yield compute_pb2.AttachResponse(input=typed)
        finally:
            hearing.cancel()
            self.over.set()

    async def _hear(self, parts: AsyncIterator[compute_pb2.AttachRequest]) -> None:
        async for part in parts:
            match part.WhichOneof("part"):
                case "console_opened":
                    self.opened = part.console_opened
                case "chunk":
                    self.content += part.chunk
                case "failure":
                    self.failure = part.failure.reason
            async with self._changed:
                self._changed.notify_all()
            await self.reading.wait()


class FakeIngress(compute_pb2_grpc.ComputeIngressServiceServicer):
    """The server. `want` changes what is wanted; `changed` is notified of everything heard."""

    def __init__(self, cloud_id: str) -> None:
        self.cloud_id = cloud_id
        self.revision = 0
        self.hosts: defaultdict[str, FakeHost] = defaultdict(FakeHost)
        self.blobs: dict[str, bytes] = {}
        self.fetches: Counter[str] = Counter()
        self.fetch_offsets: list[int] = []
        self.break_fetch_after_bytes: int | None = None
        self.hold_fetches = asyncio.Event()
        self.hold_fetches.set()
        self.acknowledging = True
        self.answers: dict[str, list[compute_pb2.AttachRequest]] = {}
        self.lines: dict[str, FakeLine] = {}
        self.changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def start(self, listen: str) -> None:
        """Serves on `listen`, e.g. unix:/path."""
        self._server = rpc.server()
        compute_pb2_grpc.add_ComputeIngressServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(listen)
        await self._server.start()

    async def stop(self) -> None:
        """Ends every stream at once, as a killed api does; what is known is kept."""
        assert self._server is not None
        await self._server.stop(0)

    def want(self, host_id: str, wanted: compute_pb2.Wanted) -> compute_pb2.Wanted:
        """Commits a wish: gives it the next revision."""
        self.revision += 1
        wanted.revision = self.revision
        self.hosts[host_id].claims[wanted.instance_id, wanted.epoch] = wanted
        return wanted

    def command(self, host_id: str, *wanted: compute_pb2.Wanted) -> bytes:
        """The wishes as a message of the bus."""
        batch = compute_pb2.CommandBatch(
            host_id=host_id, incarnation=self.hosts[host_id].incarnation, wanted=wanted
        )
        return batch.SerializeToString()

    async def push_view(self, host_id: str) -> None:
        """Sends the view unasked, as an answer to a beat would bring about."""
        await self.hosts[host_id].outgoing.put(Response(view=self._view(host_id)))

    async def supersede(self, host_id: str) -> None:
        """Lets another agent be live."""
        self.hosts[host_id].incarnation += 1
        await self.hosts[host_id].outgoing.put(Response(superseded=compute_pb2.Superseded()))

    async def until(self, holds: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Waits until something heard makes `holds` true."""
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(holds)

    async def StreamInstanceStates(  # the contract's name
        self, request_iterator: AsyncIterator[Request], context: Any
    ) -> AsyncIterator[Response]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("saying") != "hello":
            raise Invalid("INVALID_FIELD", "the first saying is a Hello")
        host_id = first.hello.host_id
        host = self.hosts[host_id]
        host.hellos.append(first.hello)
        host.incarnation += 1
        host.outgoing = asyncio.Queue()
        await self._notify()
        yield Response(view=self._view(host_id))
        hearing = asyncio.ensure_future(self._hear(host_id, request_iterator, host.outgoing))
        try:
            while (response := await host.outgoing.get()) is not None:
                yield response
        finally:
            hearing.cancel()

    async def FetchBlob(  # the contract's name
        self, request: compute_pb2.FetchBlobRequest, context: Any
    ) -> AsyncIterator[compute_pb2.FetchBlobResponse]:
        self.fetches[request.digest] += 1
        self.fetch_offsets.append(request.offset)
        await self._notify()
        host = self.hosts[request.host_id]
        if request.incarnation != host.incarnation:
            raise Conflict("SUPERSEDED", "another agent is live")
        named = {wanted.spec.image.digest for wanted in host.claims.values()}
        content = self.blobs.get(request.digest)
        if content is None or request.digest not in named:
            raise NotFound("BLOB_NOT_FOUND", "no such blob")
        sent = 0
        for start in range(request.offset, len(content), CHUNK_BYTES):
            await self.hold_fetches.wait()
            if self.break_fetch_after_bytes is not None and sent >= self.break_fetch_after_bytes:
                self.break_fetch_after_bytes = None
                raise Unavailable("STORE_AWAY", "broken off by the test")
            chunk = content[start : start + CHUNK_BYTES]
            sent += len(chunk)
            yield compute_pb2.FetchBlobResponse(chunk=chunk)

    async def Attach(  # the contract's name
        self, request_iterator: AsyncIterator[compute_pb2.AttachRequest], context: Any
    ) -> AsyncIterator[compute_pb2.AttachResponse]:
        first = await anext(request_iterator)
        if first.ticket in self.lines:
            async for typed in self.lines[first.ticket].carry(request_iterator):
                yield typed
            return
        self.answers[first.ticket] = [part async for part in request_iterator]
        await self._notify()
        yield compute_pb2.AttachResponse()

    async def _hear(
        self,
        host_id: str,
        sayings: AsyncIterator[Request],
        outgoing: "asyncio.Queue[Response | None]",
    ) -> None:
        host = self.hosts[host_id]
        async for saying in sayings:
            match saying.WhichOneof("saying"):
                case "observations":
                    results = [self._observe(host, o) for o in saying.observations.observations]
                    answer = compute_pb2.Acknowledgements(results=results)
                    if self.acknowledging:
                        await outgoing.put(Response(acknowledgements=answer))
                case "beat":
                    host.beats += 1
                    beat = compute_pb2.BeatAnswer(wanted_revision=host.wanted_revision)
                    await outgoing.put(Response(beat_answer=beat))
                case "inventory":
                    host.inventories.append(saying.inventory)
                case "view_wanted":
                    host.view_asks += 1
                    await outgoing.put(Response(view=self._view(host_id)))
            await self._notify()
        await outgoing.put(None)

    def _observe(
        self, host: FakeHost, observation: compute_pb2.Observation
    ) -> compute_pb2.ObservationResult:
        key = (observation.instance_id, observation.epoch)
        host.heard.append(observation)
        outcome = compute_pb2.OBSERVATION_OUTCOME_APPLIED
        if key not in host.claims:
            outcome = compute_pb2.OBSERVATION_OUTCOME_NO_SUCH_CLAIM
        elif observation.sequence <= host.sequences.get(key, 0):
            outcome = compute_pb2.OBSERVATION_OUTCOME_DUPLICATE
        else:
            host.sequences[key] = observation.sequence
            host.seen[key] = observation
            if observation.absent and self.acknowledging:
                del host.claims[key]
        return compute_pb2.ObservationResult(sequence=observation.sequence, outcome=outcome)

    def _view(self, host_id: str) -> compute_pb2.View:
        host = self.hosts[host_id]
        host.sequences.clear()
        return compute_pb2.View(
            cloud_id=self.cloud_id,
            host_id=host_id,
            incarnation=host.incarnation,
            revision=self.revision,
            wanted=host.claims.values(),
        )

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()
