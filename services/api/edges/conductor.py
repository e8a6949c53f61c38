"""The conductor: every question goes through a lane, so that what comes at once travels in one
call.

Owns the lanes, the deadline of a call, and the turn from ItemError to the error that the caller
sees.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import grpc
from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc

from services.api.edges.conductor_messages import (
    accepted_from,
    caller_to,
    changes_from,
    mutation_to,
    page_from,
    query_to,
    register_to,
)
from services.api.flows.ports import (
    Accepted,
    BeatKnown,
    Changes,
    Hello,
    ImageDescription,
    Observation,
    Wish,
)
from services.api.logic.caller import Caller
from services.api.logic.row import Page, PageQuery, Row
from services.domain.errors import CloudError
from services.domain.kinds import ResourceKind
from services.domain.observation import ObservationOutcome
from services.runtime import rpc
from services.runtime.lane import Lane

CALL_S = 5.0
CALL_BYTES_MAX = 1024 * 1024
PAGES_MAX = 8

Sized = TypeVar("Sized", conductor_pb2.Mutation, conductor_pb2.HostObservation)
Answer = TypeVar("Answer")


class Conductor:
    """What users ask: implements `flows.ports.Conductor`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: conductor_pb2_grpc.ConductorServiceAsyncStub = (
            conductor_pb2_grpc.ConductorServiceStub(channel)
        )
        self._accept: Lane[conductor_pb2.Mutation, Accepted] = Lane(
            self._send_accept, name="accept"
        )
        self._read: Lane[conductor_pb2.Query, Page] = Lane(self._send_read, name="read")
        self._read_pages: Lane[conductor_pb2.Query, Page] = Lane(
            self._send_read, name="read pages", items_max=PAGES_MAX
        )

    def lanes(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for any call to be answered."""
        return [self._accept.run(), self._read.run(), self._read_pages.run()]

    async def wish_accept(self, caller: Caller, wish: Wish) -> Accepted:
        """Commits a mutation."""
        return await self._accept.submit(mutation_to(caller, wish), caller.project_id)

    async def image_register(
        self, caller: Caller, description: ImageDescription, *, min_disk_gib: int
    ) -> Accepted:
        """Commits an image whose bytes are in the store."""
        mutation = register_to(caller, description, min_disk_gib)
        return await self._accept.submit(mutation, caller.project_id)

    async def row_read(self, caller: Caller, kind: ResourceKind, row_id: str) -> Row | None:
        """One row as of the newest commit."""
        query = conductor_pb2.Query(caller=caller_to(caller), kind=kind.value, id=row_id)  # type: ignore[arg-type]  # same numbers
        page = await self._read.submit(query, caller.project_id)
        return page.rows[0] if page.rows else None

    async def page_read(self, caller: Caller, query: PageQuery) -> Page:
        """Rows of one noun."""
        return await self._read_pages.submit(query_to(caller, query), caller.project_id)

    async def changes_read(self, after_revision: int, limit: int) -> Changes:
        """The change log above a revision, and its head."""
        request = conductor_pb2.ReadChangesRequest(after_revision=after_revision, limit=limit)
        answer = await _called(self._stub.ReadChanges(request, timeout=CALL_S))
        return changes_from(answer.batch)

    async def _send_accept(
        self, mutations: Sequence[conductor_pb2.Mutation]
    ) -> list[Accepted | Exception]:
        results: list[conductor_pb2.MutationResult] = []
        for part in _parts(mutations):
            request = conductor_pb2.AcceptRequest(mutations=part)
            answer = await _called(self._stub.Accept(request, timeout=CALL_S))
            results.extend(answer.results)
        return [_item(result, accepted_from) for result in results]

    async def _send_read(self, queries: Sequence[conductor_pb2.Query]) -> list[Page | Exception]:
        request = conductor_pb2.ReadRequest(queries=queries)
        try:
            answer = await self._stub.Read(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as failed:
            if failed.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or len(queries) == 1:
                raise rpc.error_of(failed) from failed
            # Together their rows are too large for one message: nobody suffers for another's.
            return [(await self._send_read([query]))[0] for query in queries]
        return [page_from(result) for result in answer.results]


class HostRecords:
    """What hosts say: implements `flows.ports.HostRecords`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: conductor_pb2_grpc.ConductorServiceAsyncStub = (
            conductor_pb2_grpc.ConductorServiceStub(channel)
        )
        self._observe: Lane[conductor_pb2.HostObservation, ObservationOutcome] = Lane(
            self._send_observe, name="observe"
        )
        self._beat: Lane[conductor_pb2.HostBeat, BeatKnown] = Lane(self._send_beat, name="beat")
        self._greet: Lane[compute_pb2.Hello, compute_pb2.View] = Lane(
            self._send_greet, name="greet", items_max=1
        )

    def lanes(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for any call to be answered."""
        return [self._observe.run(), self._beat.run(), self._greet.run()]

    async def host_greet(self, hello: Hello) -> compute_pb2.View:
        """A new incarnation and its view."""
        assert isinstance(hello, compute_pb2.Hello)
        return await self._greet.submit(hello, hello.host_id)

    async def view_read(self, host_id: str, incarnation: int) -> compute_pb2.View:
        """The view of a live incarnation."""
        request = conductor_pb2.ReadViewRequest(host_id=host_id, incarnation=incarnation)
        answer = await _called(self._stub.ReadView(request, timeout=CALL_S))
        if answer.HasField("error"):
            raise _error(answer.error)
        return answer.view

    async def digests_read(self, host_id: str, incarnation: int) -> frozenset[str]:
        """The digests that the claims of a live incarnation name."""
        view = await self.view_read(host_id, incarnation)
        return frozenset(wanted.spec.image.digest for wanted in view.wanted)

    async def observation_apply(
        self, host_id: str, incarnation: int, observation: Observation
    ) -> ObservationOutcome:
        """Commits what a host saw."""
        assert isinstance(observation, compute_pb2.Observation)
        item = conductor_pb2.HostObservation(
            host_id=host_id, incarnation=incarnation, observation=observation
        )
        return await self._observe.submit(item, host_id)

    async def beat_renew(self, host_id: str, incarnation: int) -> BeatKnown:
        """Renews the host's lease."""
        item = conductor_pb2.HostBeat(host_id=host_id, incarnation=incarnation)
        return await self._beat.submit(item, host_id)

    async def _send_observe(
        self, observations: Sequence[conductor_pb2.HostObservation]
    ) -> list[ObservationOutcome | Exception]:
        outcomes: list[ObservationOutcome | Exception] = []
        for part in _parts(observations):
            request = conductor_pb2.ObserveRequest(observations=part)
            answer = await _called(self._stub.Observe(request, timeout=CALL_S))
            outcomes.extend(ObservationOutcome(result.outcome) for result in answer.results)
        return outcomes

    async def _send_beat(
        self, beats: Sequence[conductor_pb2.HostBeat]
    ) -> list[BeatKnown | Exception]:
        request = conductor_pb2.BeatRequest(beats=beats)
        answer = await _called(self._stub.Beat(request, timeout=CALL_S))
        return [BeatKnown(r.superseded, r.wanted_revision) for r in answer.results]

    async def _send_greet(
        self, hellos: Sequence[compute_pb2.Hello]
    ) -> list[compute_pb2.View | Exception]:
        (hello,) = hellos
        request = conductor_pb2.GreetRequest(hello=hello)
        answer = await _called(self._stub.Greet(request, timeout=CALL_S))
        return [_error(answer.error) if answer.HasField("error") else answer.view]


async def _called(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as failed:
        raise rpc.error_of(failed) from failed


def _item(
    result: conductor_pb2.MutationResult,
    convert: Callable[[conductor_pb2.MutationResult], Accepted],
) -> Accepted | Exception:
    return _error(result.error) if result.HasField("error") else convert(result)


def _error(error: conductor_pb2.ItemError) -> CloudError:
    return rpc.error_from(
        error.code, error.reason, error.message, field=error.field, metadata=dict(error.metadata)
    )


def _parts(items: Sequence[Sized]) -> list[list[Sized]]:
    parts: list[list[Sized]] = []
    size_bytes = CALL_BYTES_MAX
    for item in items:
        item_bytes = item.ByteSize()
        if not parts or size_bytes + item_bytes > CALL_BYTES_MAX:
            parts.append([])
            size_bytes = 0
        parts[-1].append(item)
        size_bytes += item_bytes
    return parts
