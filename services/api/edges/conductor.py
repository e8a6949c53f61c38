"""The conductor, as users ask it: every question goes through a lane, so that what comes at once
travels in one round of the conversation.

Owns the lanes, the deadline of a round, and what a call takes along: how long its caller still
waits, and its trace. What is rare (the log, a host's welcome and view) is a call of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc

from services.api.edges.conductor_calls import CALL_S, called
from services.api.edges.conductor_messages import (
    accepted_from,
    batched_to,
    caller_to,
    changes_from,
    mutation_to,
    page_from,
    query_to,
    register_to,
)
from services.api.edges.conversation import Conversation
from services.api.edges.present_call import time_left_s
from services.api.flows.ports import (
    Accepted,
    Changes,
    ImageDescription,
    Wish,
)
from services.api.logic.caller import Caller
from services.api.logic.row import Page, PageQuery, Row
from services.domain.errors import CloudError, NoCapacity, WrongState
from services.domain.kinds import ResourceKind
from services.runtime.lane import Lane
from services.runtime.telemetry import current_trace

PAGES_MAX = 8
# A few seconds' worth; who waits longer than that asks again, and takes no memory meanwhile.
ACCEPTS_MAX = 4096
TIME_LEFT_MAX_MS = 2**31 - 1

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
        answer = await called(self._stub.ReadChanges(request, timeout=CALL_S))
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
