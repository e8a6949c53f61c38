"""ConductorService: messages in, flows, messages out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc

from services.conductor.edges import messages, wishes
from services.conductor.edges.conversation import converse
from services.conductor.edges.wishes import Acceptors
from services.conductor.flows.greet import Greeter
from services.conductor.flows.lease import Leaser
from services.conductor.flows.observe import Observer
from services.conductor.flows.ports import CloudIdentity, Store
from services.conductor.flows.read import Reader
from services.conductor.logic.leases import Beat
from services.domain.errors import Broken, CloudError, Invalid
from services.runtime.log import logger


@dataclass(frozen=True, slots=True)
class Flows:
    """What the servicer calls."""

    acceptors: Acceptors
    reader: Reader
    observer: Observer
    greeter: Greeter
    leaser: Leaser


class ConductorServicer(conductor_pb2_grpc.ConductorServiceServicer):
    """Answers api and scheduler; each item of a batch has its own result."""

    def __init__(self, flows: Flows, store: Store, cloud: CloudIdentity) -> None:
        self._flows = flows
        self._store = store
        self._cloud = cloud
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Ends conversations once the rounds that were begun are answered."""
        self._closing.set()

    async def Accept(
        self, request: conductor_pb2.AcceptRequest, context: Any
    ) -> conductor_pb2.AcceptResponse:
        """Commits what users ask for."""
        results = await asyncio.gather(*(self._accept_one(m) for m in request.mutations))
        return conductor_pb2.AcceptResponse(results=results)

    async def Read(
        self, request: conductor_pb2.ReadRequest, context: Any
    ) -> conductor_pb2.ReadResponse:
        """Reads rows."""
        pages = await asyncio.gather(*(self._read_one(q) for q in request.queries))
        return conductor_pb2.ReadResponse(results=pages)

    async def ReadChanges(
        self, request: conductor_pb2.ReadChangesRequest, context: Any
    ) -> conductor_pb2.ReadChangesResponse:
        """Reads the change log by range."""
        limit = max(1, min(request.limit, 1000))
        page = await self._store.changes_read(request.after_revision, limit)
        batch = messages.feed_batch(
            page.records,
            page.head_revision,
            history_id=self._cloud.history_id,
            compacted_revision=page.compacted_revision,
        )
        return conductor_pb2.ReadChangesResponse(batch=batch)

    async def Greet(
        self, request: conductor_pb2.GreetRequest, context: Any
    ) -> conductor_pb2.GreetResponse:
        """Gives a host a new incarnation and its view."""
        try:
            view = await self._flows.greeter.greet(messages.hello_from(request.hello))
        except CloudError as error:
            return conductor_pb2.GreetResponse(error=messages.item_error(error))
        return conductor_pb2.GreetResponse(view=messages.view(view, self._cloud.cloud_id))

    async def ReadView(
        self, request: conductor_pb2.ReadViewRequest, context: Any
    ) -> conductor_pb2.ReadViewResponse:
        """Reads a host's view anew."""
        try:
            view = await self._flows.greeter.view(request.host_id, request.incarnation)
        except CloudError as error:
            return conductor_pb2.ReadViewResponse(error=messages.item_error(error))
        return conductor_pb2.ReadViewResponse(view=messages.view(view, self._cloud.cloud_id))

    async def Observe(
        self, request: conductor_pb2.ObserveRequest, context: Any
    ) -> conductor_pb2.ObserveResponse:
        """Applies what hosts saw."""
        outcomes = await self._flows.observer.observe(
            [messages.seen_from(observation) for observation in request.observations]
        )
        return messages.observe_response(request, outcomes)

    async def Beat(
        self, request: conductor_pb2.BeatRequest, context: Any
    ) -> conductor_pb2.BeatResponse:
        """Renews leases."""
        answers = await self._flows.leaser.beat(
            [Beat(b.host_id, b.incarnation, b.bus_silent) for b in request.beats]
        )
        return conductor_pb2.BeatResponse(
            results=[
                conductor_pb2.BeatResult(
                    superseded=answer.superseded, wanted_revision=answer.wanted_revision
                )
                for answer in answers
            ]
        )

    async def Converse(
        self, request_iterator: AsyncIterator[conductor_pb2.ConverseRequest], context: Any
    ) -> AsyncIterator[conductor_pb2.ConverseResponse]:
        """Answers the rounds of one api for as long as it lives."""

        async def answer(
            round_: conductor_pb2.ConverseRequest,
        ) -> conductor_pb2.ConverseResponse:
            response = conductor_pb2.ConverseResponse(number=round_.number)
            try:
                await self._converse_one(round_, response, context)
            except Exception as error:  # noqa: BLE001  # what is wrong with one must not fail the others
                response.error.CopyFrom(messages.item_error(_told(error)))
            return response

        async for response in converse(request_iterator, answer, self._closing):
            yield response

    async def _converse_one(
        self,
        round_: conductor_pb2.ConverseRequest,
        response: conductor_pb2.ConverseResponse,
        context: Any,
    ) -> None:
        kind = round_.WhichOneof("round")
        if kind == "accept":
            response.accept.CopyFrom(await self.Accept(round_.accept, context))
        elif kind == "read":
            response.read.CopyFrom(await self.Read(round_.read, context))
        elif kind == "observe":
            response.observe.CopyFrom(await self.Observe(round_.observe, context))
        elif kind == "beat":
            response.beat.CopyFrom(await self.Beat(round_.beat, context))
        else:
            raise Invalid("ROUND_MISSING", "the round says nothing")

    async def _accept_one(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        try:
            accepted = await wishes.accept(self._flows.acceptors, mutation)
        except Exception as error:  # noqa: BLE001  # as above
            return conductor_pb2.MutationResult(error=messages.item_error(_told(error)))
        result = conductor_pb2.MutationResult(resource=messages.resource(accepted.resource))
        if not wishes.is_dry(mutation):
            result.operation.CopyFrom(messages.resource(accepted.operation))
        return result

    async def _read_one(self, query: conductor_pb2.Query) -> conductor_pb2.QueryResult:
        try:
            page = await self._flows.reader.read(
                messages.caller_from(query.caller),
                messages.query_from(query),
                time_left_s=query.time_left_ms / 1000 if query.time_left_ms > 0 else None,
            )
        except Exception as error:  # noqa: BLE001  # as above
            return conductor_pb2.QueryResult(error=messages.item_error(_told(error)))
        return messages.query_result(page)


def _told(error: Exception) -> CloudError:
    if isinstance(error, CloudError):
        return error
    logger().error("item failed", error=repr(error), exc_info=error)
    return Broken("BUG", "stead failed in a way it should not; see its log")
