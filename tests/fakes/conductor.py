"""A conductor in memory that speaks the real contract: rows, a change log, request ids, hosts and
their claims.

Keeps what api can tell apart; chooses no hosts by itself and forgets everything at its end. The
feed goes out through `publish`, which a test may mute to play a bus that loses messages.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc, resource_pb2
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

from services.domain.errors import AlreadyExists, CloudError, Invalid, NotFound, WrongState
from services.runtime.rpc import code_of, server

INSTANCE = resource_pb2.RESOURCE_KIND_INSTANCE
OPERATION = resource_pb2.RESOURCE_KIND_OPERATION
FLAVOR = resource_pb2.RESOURCE_KIND_FLAVOR
IMAGE = resource_pb2.RESOURCE_KIND_IMAGE
HOST = resource_pb2.RESOURCE_KIND_HOST
MESSAGES: dict[int, Any] = {
    INSTANCE: instance_pb2.Instance,
    OPERATION: operation_pb2.Operation,
    FLAVOR: flavor_pb2.Flavor,
    IMAGE: image_pb2.Image,
    HOST: host_pb2.Host,
}
Key = tuple[int, str]


class FakeConductor(conductor_pb2_grpc.ConductorServiceServicer):
    """The server and its rows."""

    def __init__(self) -> None:
        self.rows: dict[Key, resource_pb2.Resource] = {}
        self.log: list[resource_pb2.Resource] = []
        self.requests: dict[tuple[str, str], tuple[bytes, Key, Key]] = {}
        self.incarnations: dict[str, int] = {}
        self.observed: list[conductor_pb2.HostObservation] = []
        self.rounds: list[int] = []
        self.publish: Callable[[bytes], Awaitable[None]] | None = None
        self.after_read: Callable[[conductor_pb2.Query], Awaitable[None]] | None = None
        self._ids = itertools.count(1)
        self._server: grpc.aio.Server | None = None

    async def start(self, listen: str) -> None:
        """Serves on a target."""
        self._server = server()
        conductor_pb2_grpc.add_ConductorServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(listen)
        await self._server.start()

    async def stop(self) -> None:
        """Is gone at once; `start` brings it back with its rows."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    # Rows

    def body(self, kind: int, row_id: str) -> Any:
        """The public message of a row."""
        return MESSAGES[kind].FromString(self.rows[kind, row_id].body)

    async def commit(self, kind: int, message: Any, **header: Any) -> resource_pb2.Resource:
        """One visible change of one row, told to the feed."""
        before = self.rows.get((kind, message.id))
        row = resource_pb2.Resource(
            kind=kind,  # type: ignore[arg-type]  # an int is what enums are
            id=message.id,
            project_id=getattr(message, "project_id", ""),
            version=before.version + 1 if before else 1,
            revision=len(self.log) + 1,
            body=message.SerializeToString(),
            **{"epoch": before.epoch if before else 0, **header},
        )
        self.rows[kind, message.id] = row
        self.log.append(row)
        if self.publish is not None:
            await self.publish(self._batch([row]).SerializeToString())
        return row

    async def change_instance(
        self, instance_id: str, *, epoch: int | None = None, **fields: Any
    ) -> None:
        """Sets fields of an instance."""
        message = self.body(INSTANCE, instance_id)
        for field, value in fields.items():
            setattr(message, field, value)
        deleted = message.state == instance_pb2.INSTANCE_STATE_DELETED
        header = {} if epoch is None else {"epoch": epoch}
        await self.commit(INSTANCE, message, deleted=deleted, **header)

    async def end_operation(self, operation_id: str, state: int) -> None:
        """Ends an operation."""
        message = self.body(OPERATION, operation_id)
        message.state = state
        message.phase = operation_pb2.OPERATION_PHASE_ENDED
        await self.commit(OPERATION, message)

    def _batch(self, changes: list[resource_pb2.Resource]) -> resource_pb2.FeedBatch:
        return resource_pb2.FeedBatch(
            history_id="history-1", head_revision=len(self.log), changes=changes
        )

    # Wishes

    async def Accept(
        self, request: conductor_pb2.AcceptRequest, context: Any
    ) -> conductor_pb2.AcceptResponse:
        """One result per wish."""
        self.rounds.append(len(request.mutations))
        return conductor_pb2.AcceptResponse(
            results=[await self._result(m) for m in request.mutations]
        )

    async def _result(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        try:
            return await self._accepted(mutation)
        except CloudError as refused:
            return conductor_pb2.MutationResult(error=_item_error(refused))

    async def _accepted(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        wish = getattr(mutation, mutation.WhichOneof("wish") or "")
        request_id = (
            wish.description.request_id
            if "image" in (mutation.WhichOneof("wish") or "") and hasattr(wish, "description")
            else wish.request_id
        )
        known = (mutation.caller.project_id, request_id)
        fingerprint = hashlib.sha256(
            type(wish).__name__.encode() + wish.SerializeToString(deterministic=True)
        ).digest()
        if known in self.requests:
            before, resource, operation = self.requests[known]
            if before != fingerprint:
                raise Invalid(
                    "REQUEST_ID_REUSED", "this request id was used for another", field="request_id"
                )
        else:
            resource, operation = await self._carried_out(mutation, wish, request_id)
            self.requests[known] = (fingerprint, resource, operation)
        return conductor_pb2.MutationResult(
            resource=self.rows[resource], operation=self.rows[operation]
        )

    async def _carried_out(
        self, mutation: conductor_pb2.Mutation, wish: Any, request_id: str
    ) -> tuple[Key, Key]:
        action, done = operation_pb2.OPERATION_ACTION_UNSPECIFIED, True
        match wish:
            case instance_pb2.CreateInstanceRequest():
                action, done = operation_pb2.OPERATION_ACTION_CREATE_INSTANCE, False
                key = await self._create_instance(mutation.caller, wish)
            case instance_pb2.DeleteInstanceRequest():
                action, done = operation_pb2.OPERATION_ACTION_DELETE_INSTANCE, False
                key = self._own(mutation.caller, INSTANCE, wish.id)
                await self.change_instance(wish.id, task=instance_pb2.INSTANCE_TASK_DELETING)
            case flavor_pb2.CreateFlavorRequest():
                action = operation_pb2.OPERATION_ACTION_CREATE_FLAVOR
                self._refuse_name(FLAVOR, "", wish.name)
                key = await self._add(
                    FLAVOR,
                    flavor_pb2.Flavor(
                        name=wish.name,
                        vcpus=wish.vcpus,
                        memory_mib=wish.memory_mib,
                        disk_gib=wish.disk_gib,
                    ),
                )
            case conductor_pb2.RegisterImage():
                action = operation_pb2.OPERATION_ACTION_IMPORT_IMAGE
                key = await self._register_image(mutation.caller, wish)
            case flavor_pb2.DeleteFlavorRequest():
                action = operation_pb2.OPERATION_ACTION_DELETE_FLAVOR
                key = self._own(mutation.caller, FLAVOR, wish.id)
                await self.commit(FLAVOR, self.body(*key), deleted=True)
            case _:
                action = operation_pb2.OPERATION_ACTION_DELETE_IMAGE
                key = self._own(mutation.caller, IMAGE, wish.id)
                await self.commit(IMAGE, self.body(*key), deleted=True)
        operation = operation_pb2.Operation(
            project_id=mutation.caller.project_id,
            action=action,
            state=operation_pb2.OPERATION_STATE_DONE
            if done
            else operation_pb2.OPERATION_STATE_RUNNING,
            resource_id=key[1],
            actor=mutation.caller.subject,
            request_id=request_id,
        )
        return key, await self._add(OPERATION, operation)

    async def _add(self, kind: int, message: Any, **header: Any) -> Key:
        message.id = f"{next(self._ids):08x}-0000-7000-8000-000000000000"
        await self.commit(kind, message, **header)
        return kind, message.id

    async def _create_instance(
        self, caller: conductor_pb2.Caller, wish: instance_pb2.CreateInstanceRequest
    ) -> Key:
        for kind, row_id, field in (
            (FLAVOR, wish.flavor_id, "flavor_id"),
            (IMAGE, wish.image_id, "image_id"),
        ):
            row = self.rows.get((kind, row_id))
            if row is None or row.deleted or not _sees(caller, row):
                noun = field.removesuffix("_id")
                raise Invalid(
                    f"{noun.upper()}_NOT_FOUND", f"there is no {noun} {row_id}", field=field
                )
        self._refuse_name(INSTANCE, caller.project_id, wish.name)
        return await self._add(
            INSTANCE,
            instance_pb2.Instance(
                name=wish.name,
                project_id=caller.project_id,
                state=instance_pb2.INSTANCE_STATE_REQUESTED,
                task=instance_pb2.INSTANCE_TASK_SCHEDULING,
                power=instance_pb2.INSTANCE_POWER_PENDING,
                flavor_id=wish.flavor_id,
                image_id=wish.image_id,
                labels=wish.labels,
                generation=1,
            ),
        )

    async def _register_image(
        self, caller: conductor_pb2.Caller, wish: conductor_pb2.RegisterImage
    ) -> Key:
        described = wish.description
        self._refuse_name(IMAGE, caller.project_id, described.name)
        image = image_pb2.Image(
            name=described.name,
            project_id=caller.project_id,
            state=image_pb2.IMAGE_STATE_READY,
            kind=described.kind,
            architecture=described.architecture,
            digest=described.digest,
            size_bytes=described.size_bytes,
            min_disk_gib=wish.min_disk_gib,
            visibility=described.visibility,
        )
        public = described.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC
        return await self._add(IMAGE, image, public=public)

    def _refuse_name(self, kind: int, project_id: str, name: str) -> None:
        for (row_kind, row_id), row in self.rows.items():
            if row_kind == kind and row.project_id == project_id and not row.deleted:
                if self.body(kind, row_id).name == name:
                    raise AlreadyExists("NAME_TAKEN", f"the name {name} is taken", field="name")

    def _own(self, caller: conductor_pb2.Caller, kind: int, row_id: str) -> Key:
        row = self.rows.get((kind, row_id))
        if row is None or row.deleted or not _sees(caller, row):
            name = resource_pb2.ResourceKind.Name(kind).removeprefix("RESOURCE_KIND_")  # type: ignore[arg-type]  # a number
            raise NotFound(f"{name}_NOT_FOUND", f"there is no {name.lower()} {row_id}")
        return kind, row_id

    # Questions

    async def Read(
        self, request: conductor_pb2.ReadRequest, context: Any
    ) -> conductor_pb2.ReadResponse:
        """One answer per question."""
        results = []
        for query in request.queries:
            results.append(self._answer(query))
            if self.after_read is not None:
                await self.after_read(query)
        return conductor_pb2.ReadResponse(results=results)

    def _answer(self, query: conductor_pb2.Query) -> conductor_pb2.QueryResult:
        rows = [
            row
            for (kind, row_id), row in sorted(self.rows.items())
            if kind == query.kind and _sees(query.caller, row) and self._is_meant(query, row)
        ]
        if query.id:
            rows = [row for row in rows if row.id == query.id]
            return conductor_pb2.QueryResult(resources=rows, revision=len(self.log))
        rows = [row for row in rows if not row.deleted and row.id > query.after_id]
        return conductor_pb2.QueryResult(
            resources=rows[: query.limit], revision=len(self.log), more=len(rows) > query.limit
        )

    def _is_meant(self, query: conductor_pb2.Query, row: resource_pb2.Resource) -> bool:
        if query.project_id and not row.public and row.project_id != query.project_id:
            return False
        body = self.body(row.kind, row.id)
        return all(str(getattr(body, field)) == value for field, value in query.where.items())

    async def ReadChanges(
        self, request: conductor_pb2.ReadChangesRequest, context: Any
    ) -> conductor_pb2.ReadChangesResponse:
        """The log by range."""
        after = request.after_revision
        return conductor_pb2.ReadChangesResponse(
            batch=self._batch(self.log[after : after + request.limit])
        )

    # Hosts

    async def Greet(
        self, request: conductor_pb2.GreetRequest, context: Any
    ) -> conductor_pb2.GreetResponse:
        """A new incarnation and its view."""
        hello = request.hello
        host = host_pb2.Host(
            id=hello.host_id, state=host_pb2.HOST_STATE_UP, capacity=hello.capacity
        )
        known = self.incarnations.get(hello.host_id, 0)
        self.incarnations[hello.host_id] = host.incarnation = known + 1
        ledger = resource_pb2.HostLedger(
            target=hello.capacity, used=host_pb2.Resources(vcpus=1), claims=1
        )
        await self.commit(HOST, host, ledger=ledger)
        return conductor_pb2.GreetResponse(view=self._view(hello.host_id))

    def _view(self, host_id: str) -> compute_pb2.View:
        return compute_pb2.View(
            cloud_id="0123456789ab",
            host_id=host_id,
            incarnation=self.incarnations[host_id],
            revision=len(self.log),
        )

    async def ReadView(
        self, request: conductor_pb2.ReadViewRequest, context: Any
    ) -> conductor_pb2.ReadViewResponse:
        """The view, for the live incarnation."""
        if self.incarnations.get(request.host_id) != request.incarnation:
            refused = WrongState("SUPERSEDED", "another agent is live")
            return conductor_pb2.ReadViewResponse(error=_item_error(refused))
        return conductor_pb2.ReadViewResponse(view=self._view(request.host_id))

    async def Observe(
        self, request: conductor_pb2.ObserveRequest, context: Any
    ) -> conductor_pb2.ObserveResponse:
        """Applies what the live incarnation saw of claims that it has."""
        results = []
        for seen in request.observations:
            self.observed.append(seen)
            outcome = await self._applied(seen)
            results.append(
                compute_pb2.ObservationResult(sequence=seen.observation.sequence, outcome=outcome)
            )
        return conductor_pb2.ObserveResponse(results=results)

    async def _applied(
        self, seen: conductor_pb2.HostObservation
    ) -> compute_pb2.ObservationOutcome.ValueType:
        if self.incarnations.get(seen.host_id) != seen.incarnation:
            return compute_pb2.OBSERVATION_OUTCOME_SUPERSEDED
        row = self.rows.get((INSTANCE, seen.observation.instance_id))
        if row is None or row.epoch != seen.observation.epoch:
            return compute_pb2.OBSERVATION_OUTCOME_NO_SUCH_CLAIM
        await self.change_instance(
            row.id,
            state=instance_pb2.INSTANCE_STATE_ACTIVE,
            task=instance_pb2.INSTANCE_TASK_NONE,
            power=seen.observation.power,
        )
        return compute_pb2.OBSERVATION_OUTCOME_APPLIED

    async def Beat(
        self, request: conductor_pb2.BeatRequest, context: Any
    ) -> conductor_pb2.BeatResponse:
        """What each host should know."""
        return conductor_pb2.BeatResponse(
            results=[
                conductor_pb2.BeatResult(
                    superseded=self.incarnations.get(beat.host_id) != beat.incarnation,
                    wanted_revision=len(self.log),
                )
                for beat in request.beats
            ]
        )


def _sees(caller: conductor_pb2.Caller, row: resource_pb2.Resource) -> bool:
    return caller.cloud_admin or row.public or row.project_id in ("", caller.project_id)


def _item_error(error: CloudError) -> conductor_pb2.ItemError:
    return conductor_pb2.ItemError(
        code=code_of(error),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        field=error.field,
    )
