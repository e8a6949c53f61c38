"""ConductorService: messages in, flows, messages out."""

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc
from stead.v1 import image_pb2

from services.conductor.edges import messages
from services.conductor.flows.accept import Acceptor, NewInstance
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.greet import Greeter
from services.conductor.flows.lease import Leaser
from services.conductor.flows.observe import Observer
from services.conductor.flows.ports import CloudIdentity, Query, Store
from services.conductor.flows.read import Reader
from services.conductor.logic.rows import Caller
from services.domain.errors import Broken, CloudError, Invalid
from services.domain.kinds import ResourceKind
from services.domain.resources import Resources
from services.runtime.log import logger


@dataclass(frozen=True, slots=True)
class Flows:
    """What the servicer calls."""

    acceptor: Acceptor
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
        records, head = await self._store.changes_read(request.after_revision, limit)
        return conductor_pb2.ReadChangesResponse(
            batch=messages.feed_batch(records, head, self._cloud.history_id)
        )

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
        answers = await self._flows.leaser.beat([(b.host_id, b.incarnation) for b in request.beats])
        return conductor_pb2.BeatResponse(
            results=[
                conductor_pb2.BeatResult(
                    superseded=answer.superseded, wanted_revision=answer.wanted_revision
                )
                for answer in answers
            ]
        )

    async def _accept_one(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        try:
            accepted = await self._accept_wish(mutation)
        except Exception as error:  # noqa: BLE001  # what is wrong with one must not fail the others
            return conductor_pb2.MutationResult(error=messages.item_error(_told(error)))
        return conductor_pb2.MutationResult(
            resource=messages.resource(accepted.resource),
            operation=messages.resource(accepted.operation),
        )

    def _accept_wish(self, mutation: conductor_pb2.Mutation) -> Awaitable[Accepted]:
        method = mutation.WhichOneof("wish") or ""
        if not method:
            raise Invalid("WISH_MISSING", "the mutation says nothing")
        wish: Any = getattr(mutation, method)
        asked = _asked(mutation, method, wish)
        if method == "create_instance":
            new = NewInstance(
                wish.name,
                wish.flavor_id,
                wish.image_id,
                dict(wish.labels),
                tuple(wish.ssh_public_keys),
                wish.user_data,
            )
            return self._flows.acceptor.create_instance(asked, new)
        if method == "delete_instance":
            return self._flows.acceptor.delete_instance(asked, wish.id)
        if method == "create_flavor":
            size = Resources(wish.vcpus, wish.memory_mib, wish.disk_gib)
            return self._flows.acceptor.create_flavor(asked, wish.name, size)
        if method == "register_image":
            described = wish.description
            return self._flows.acceptor.register_image(
                asked,
                (described.name, messages.image_reference_from(described)),
                wish.min_disk_gib,
                described.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC,
            )
        kind = ResourceKind.FLAVOR if method == "delete_flavor" else ResourceKind.IMAGE
        return self._flows.acceptor.delete_entry(asked, kind, wish.id)

    async def _read_one(self, query: conductor_pb2.Query) -> conductor_pb2.QueryResult:
        try:
            asked = Query(
                kind=ResourceKind(query.kind),
                id=query.id,
                project_id=query.project_id,
                after_id=query.after_id,
                limit=query.limit,
                where=dict(query.where),
            )
            page = await self._flows.reader.read(_caller(query.caller), asked)
        except Exception as error:  # noqa: BLE001  # as above
            return conductor_pb2.QueryResult(error=messages.item_error(_told(error)))
        return conductor_pb2.QueryResult(
            resources=[messages.resource(record) for record in page.records],
            revision=page.revision,
            more=page.more,
        )


def _told(error: Exception) -> CloudError:
    if isinstance(error, CloudError):
        return error
    logger().error("item failed", error=repr(error), exc_info=error)
    return Broken("BUG", "stead failed in a way it should not; see its log")


def _caller(message: conductor_pb2.Caller) -> Caller:
    return Caller(message.subject, message.project_id, message.cloud_admin)


def _asked(mutation: conductor_pb2.Mutation, method: str, wish: Any) -> Asked:
    described = wish.description if method == "register_image" else wish
    fingerprint = hashlib.sha256(described.SerializeToString(deterministic=True)).digest()
    return Asked(_caller(mutation.caller), method, described.request_id, fingerprint)
