"""The conductor: every question goes through a lane, so that what comes at once travels in one
round of the conversation.

Owns the lanes, the deadline of a round, and what a call takes along: how long its caller still
waits, and its trace. What is rare (the log, a host's welcome and view) is a call of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc

from services.api.edges.conductor_messages import (
    accepted_from,
    batched_to,
    caller_to,
    changes_from,
    error_from,
    mutation_to,
    page_from,
    query_to,
    register_to,
)
from services.api.edges.conversation import Conversation
from services.api.edges.present_call import time_left_s
from services.api.flows.ports import (
    Accepted,
    BeatKnown,
    Changes,
    Hello,
    ImageDescription,
    Inventory,
    Observation,
    Wish,
)
from services.api.logic.caller import Caller
from services.api.logic.row import Page, PageQuery, Row
from services.domain.errors import CloudError, NoCapacity, WrongState
from services.domain.kinds import ResourceKind
from services.domain.observation import ObservationOutcome
from services.runtime import rpc
from services.runtime.lane import Lane
from services.runtime.telemetry import current_trace

CALL_S = 5.0
ROAD_S = 1.0
PAGES_MAX = 8
# A few seconds' worth; who waits longer than that asks again, and takes no memory meanwhile.
ACCEPTS_MAX = 4096
INVENTORIES_MAX = 16
TIME_LEFT_MAX_MS = 2**31 - 1

Answer = TypeVar("Answer")
Message = TypeVar("Message", conductor_pb2.Mutation, conductor_pb2.Query)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Message]):
    """A message, and the moment of the monotonic clock at which its caller waits no more."""

    message: Message
    until_s: float | None

    @classmethod
    def now(cls, message: Message) -> _Asked[Message]:
        """In the name of the present call."""
        left_s = time_left_s()
        return cls(message, None if left_s is None else time.monotonic() + left_s)

    def left_s(self) -> float | None:
        """How long its caller still waits."""
        return None if self.until_s is None else self.until_s - time.monotonic()

    def timed(self) -> Message:
        """The message as it goes out: with what is left now, after it has waited here."""
        left_s = self.left_s()
        if left_s is not None:
            # 0 would stand for ever.
            self.message.time_left_ms = max(1, min(math.ceil(left_s * 1000), TIME_LEFT_MAX_MS))
        return self.message


class Conductor:
    """What users ask: implements `flows.ports.Conductor`."""

    def __init__(
        self, stub: conductor_pb2_grpc.ConductorServiceAsyncStub, conversation: Conversation
    ) -> None:
        self._stub = stub
        self._conversation = conversation
        self._accept: Lane[_Asked[conductor_pb2.Mutation], Accepted] = Lane(
            self._send_accept, name="accept", waiting_max=ACCEPTS_MAX
        )
        self._read: Lane[_Asked[conductor_pb2.Query], Page] = Lane(self._send_read, name="read")
        self._read_pages: Lane[_Asked[conductor_pb2.Query], Page] = Lane(
            self._send_read, name="read pages", items_max=PAGES_MAX
        )

    def lanes(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for any call to be answered."""
        return [self._accept.run(), self._read.run(), self._read_pages.run()]

    async def wish_accept(self, caller: Caller, wish: Wish) -> Accepted:
        """Commits a mutation."""
        try:
            return await self._queued(mutation_to(caller, wish), caller)
        except WrongState as refused:
            refused.metadata.setdefault("id", getattr(wish, "id", ""))
            raise

    async def batch_accept(
        self, caller: Caller, wishes: Sequence[Wish], fingerprint: bytes
    ) -> list[Accepted | CloudError]:
        """Commits new instances, each for itself."""
        answers: list[asyncio.Future[Accepted]] = []
        try:
            for index, wish in enumerate(wishes):
                answers.append(self._queued(batched_to(caller, wish, index, fingerprint), caller))
        except NoCapacity:
            for answer in answers:
                answer.cancel()
            raise
        results: list[Accepted | CloudError] = []
        for result in await asyncio.gather(*answers, return_exceptions=True):
            if not isinstance(result, Accepted | CloudError):
                raise result
            results.append(result)
        return results

    async def image_register(
        self, caller: Caller, description: ImageDescription, *, min_disk_gib: int
    ) -> Accepted:
        """Commits an image whose bytes are in the store."""
        mutation = register_to(caller, description, min_disk_gib)
        return await self._queued(mutation, caller)

    async def row_read(self, caller: Caller, kind: ResourceKind, row_id: str) -> Row | None:
        """One row as of the newest commit."""
        query = conductor_pb2.Query(caller=caller_to(caller), kind=kind.value, id=row_id)  # type: ignore[arg-type]  # same numbers
        asked = _Asked.now(query)
        page = await self._read.submit(asked, caller.project_id, time_left_s=asked.left_s())
        return page.rows[0] if page.rows else None

    async def page_read(self, caller: Caller, query: PageQuery) -> Page:
        """Rows of one noun."""
        asked = _Asked.now(query_to(caller, query))
        return await self._read_pages.submit(asked, caller.project_id, time_left_s=asked.left_s())

    async def changes_read(self, after_revision: int, limit: int) -> Changes:
        """The change log above a revision, and its head."""
        request = conductor_pb2.ReadChangesRequest(after_revision=after_revision, limit=limit)
        answer = await _called(self._stub.ReadChanges(request, timeout=CALL_S))
        return changes_from(answer.batch)

    def _queued(self, mutation: conductor_pb2.Mutation, caller: Caller) -> asyncio.Future[Accepted]:
        asked, trace = _Asked.now(mutation), current_trace()
        mutation.trace.correlation_id = trace.correlation_id
        mutation.trace.traceparent = trace.traceparent
        size_bytes, left_s = mutation.ByteSize(), asked.left_s()
        return self._accept.put(asked, caller.project_id, size_bytes=size_bytes, time_left_s=left_s)

    async def _send_accept(
        self, asked: Sequence[_Asked[conductor_pb2.Mutation]]
    ) -> list[Accepted | Exception]:
        request = conductor_pb2.AcceptRequest(mutations=[one.timed() for one in asked])
        round_ = conductor_pb2.ConverseRequest(accept=request)
        answer = await self._conversation.ask(round_, CALL_S)
        return [accepted_from(result) for result in answer.accept.results]

    async def _send_read(
        self, asked: Sequence[_Asked[conductor_pb2.Query]]
    ) -> list[Page | Exception]:
        request = conductor_pb2.ReadRequest(queries=[one.timed() for one in asked])
        round_ = conductor_pb2.ConverseRequest(read=request)
        try:
            answer = await self._conversation.ask(round_, CALL_S)
        except NoCapacity:
            if len(asked) == 1:
                raise
            # Together their rows are too large for one message: nobody suffers for another's.
            return [(await self._send_read([one]))[0] for one in asked]
        return [page_from(result) for result in answer.read.results]


class HostRecords:
    """What hosts say: implements `flows.ports.HostRecords`."""

    def __init__(
        self, stub: conductor_pb2_grpc.ConductorServiceAsyncStub, conversation: Conversation
    ) -> None:
        self._stub = stub
        self._conversation = conversation
        self._observe: Lane[conductor_pb2.HostObservation, ObservationOutcome] = Lane(
            self._send_observe, name="observe"
        )
        self._beat: Lane[conductor_pb2.HostBeat, BeatKnown] = Lane(self._send_beat, name="beat")
        self._inventories: Lane[conductor_pb2.HostInventory, bool] = Lane(
            self._send_inventories, name="inventories", items_max=INVENTORIES_MAX
        )
        self._greet: Lane[compute_pb2.Hello, compute_pb2.View] = Lane(
            self._send_greet, name="greet", items_max=1
        )

    def lanes(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for any call to be answered."""
        lanes = (self._observe, self._beat, self._inventories, self._greet)
        return [*(lane.run() for lane in lanes), self._prove_road()]

    async def host_greet(self, hello: Hello) -> compute_pb2.View:
        """A new incarnation and its view."""
        assert isinstance(hello, compute_pb2.Hello)
        return await self._greet.submit(hello, hello.host_id)

    async def view_read(self, host_id: str, incarnation: int) -> compute_pb2.View:
        """The view of a live incarnation."""
        request = conductor_pb2.ReadViewRequest(host_id=host_id, incarnation=incarnation)
        answer = await _called(self._stub.ReadView(request, timeout=CALL_S))
        if answer.HasField("error"):
            raise error_from(answer.error)
        return answer.view

    async def digests_read(self, host_id: str, incarnation: int) -> frozenset[str]:
        """The digests that the claims of a live incarnation name."""
        view = await self.view_read(host_id, incarnation)
        return frozenset(wanted.spec.image.digest for wanted in view.wanted)

    async def observations_apply(
        self, host_id: str, incarnation: int, observations: Sequence[Observation]
    ) -> list[ObservationOutcome]:
        """Commits what a host saw; what became of each."""
        answers: list[asyncio.Future[ObservationOutcome]] = []
        for observation in observations:
            assert isinstance(observation, compute_pb2.Observation)
            item = conductor_pb2.HostObservation(
                host_id=host_id, incarnation=incarnation, observation=observation
            )
            answers.append(self._observe.put(item, host_id, size_bytes=item.ByteSize()))
        return [await answer for answer in answers]

    async def beat_renew(self, host_id: str, incarnation: int, bus_silent: bool) -> BeatKnown:
        """Renews the host's lease; `bus_silent` where commands would not reach it."""
        item = conductor_pb2.HostBeat(
            host_id=host_id, incarnation=incarnation, bus_silent=bus_silent
        )
        return await self._beat.submit(item, host_id)

    async def inventory_report(self, host_id: str, incarnation: int, inventory: Inventory) -> bool:
        """Tells which guests a host has; whether its incarnation is the live one."""
        assert isinstance(inventory, compute_pb2.Inventory)
        item = conductor_pb2.HostInventory(
            host_id=host_id, incarnation=incarnation, inventory=inventory
        )
        return await self._inventories.submit(item, host_id, size_bytes=item.ByteSize())

    async def _send_inventories(
        self, inventories: Sequence[conductor_pb2.HostInventory]
    ) -> list[bool | Exception]:
        request = conductor_pb2.ReportInventoriesRequest(inventories=inventories)
        answer = await _called(self._stub.ReportInventories(request, timeout=CALL_S))
        return [not one for one in answer.superseded]

    async def _send_observe(
        self, observations: Sequence[conductor_pb2.HostObservation]
    ) -> list[ObservationOutcome | Exception]:
        request = conductor_pb2.ObserveRequest(observations=observations)
        round_ = conductor_pb2.ConverseRequest(observe=request)
        answer = await self._conversation.ask(round_, CALL_S)
        return [ObservationOutcome(result.outcome) for result in answer.observe.results]

    async def _prove_road(self) -> None:
        # No host's beat: it says that one would have come through. Source: MECHANICS D5, ADR 0010.
        while True:
            with contextlib.suppress(CloudError):
                await self._send_beat(())
            await asyncio.sleep(ROAD_S)

    async def _send_beat(
        self, beats: Sequence[conductor_pb2.HostBeat]
    ) -> list[BeatKnown | Exception]:
        round_ = conductor_pb2.ConverseRequest(beat=conductor_pb2.BeatRequest(beats=beats))
        answer = await self._conversation.ask(round_, CALL_S)
        return [BeatKnown(r.superseded, r.wanted_revision) for r in answer.beat.results]

    async def _send_greet(
        self, hellos: Sequence[compute_pb2.Hello]
    ) -> list[compute_pb2.View | Exception]:
        (hello,) = hellos
        request = conductor_pb2.GreetRequest(hello=hello)
        answer = await _called(self._stub.Greet(request, timeout=CALL_S))
        return [error_from(answer.error) if answer.HasField("error") else answer.view]


async def _called(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as failed:
        raise rpc.error_of(failed) from failed
