"""A conductor in memory that speaks the real contract: rows, a change log, request ids, hosts.

Keeps what api can tell apart; chooses no hosts by itself and forgets everything at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc, resource_pb2
from stead.v1 import audit_pb2, host_pb2, instance_pb2

from services.domain.errors import CloudError, Conflict, NotFound, Unavailable
from services.runtime.rpc import server
from tests.fakes.conductor_rows import HOST, INSTANCE
from tests.fakes.conductor_wishes import Wishes
from tests.fakes.item_error import item_error


class FakeConductor(Wishes, conductor_pb2_grpc.ConductorServiceServicer):
    """The server. `after_read` is called between two answers, to disturb whoever reads on; rounds
    with `held` set wait for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.incarnations: dict[str, int] = {}
        self.claims: dict[str, list[compute_pb2.Wanted]] = {}
        self.observed: list[conductor_pb2.HostObservation] = []
        self.inventories: list[conductor_pb2.HostInventory] = []
        self.rounds: list[int] = []
        self.beats_to_refuse = 0
        self.conversations = 0
        self.rounds_held = 0
        self.held: asyncio.Event | None = None
        self.after_read: Callable[[conductor_pb2.Query], Awaitable[None]] | None = None
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

    async def Converse(
        self, request_iterator: AsyncIterator[conductor_pb2.ConverseRequest], context: Any
    ) -> AsyncIterator[conductor_pb2.ConverseResponse]:
        """Answers rounds as they are done."""
        self.conversations += 1
        answers: asyncio.Queue[conductor_pb2.ConverseResponse | None] = asyncio.Queue()

        async def hear() -> None:
            async with asyncio.TaskGroup() as group:
                async for round_ in request_iterator:
                    group.create_task(self._round(round_, answers))
            answers.put_nowait(None)

        hearing = asyncio.create_task(hear())
        try:
            while (answer := await answers.get()) is not None:
                yield answer
        finally:
            hearing.cancel()

    async def _round(
        self,
        round_: conductor_pb2.ConverseRequest,
        answers: asyncio.Queue[conductor_pb2.ConverseResponse | None],
    ) -> None:
        which = round_.WhichOneof("round") or ""
        if self.held is not None:
            self.rounds_held += 1
            await self.held.wait()
        said: dict[str, Any] = {}
        try:
            answering = getattr(self, which.capitalize())
            said[which] = await answering(getattr(round_, which), None)
        except CloudError as refused:
            said = {"error": item_error(refused)}
        answers.put_nowait(conductor_pb2.ConverseResponse(number=round_.number, **said))

    async def Accept(
        self, request: conductor_pb2.AcceptRequest, context: Any
    ) -> conductor_pb2.AcceptResponse:
        """One result per wish."""
        self.rounds.append(len(request.mutations))
        return conductor_pb2.AcceptResponse(
            results=[await self.result(m) for m in request.mutations]
        )

    async def Read(
        self, request: conductor_pb2.ReadRequest, context: Any
    ) -> conductor_pb2.ReadResponse:
        """One answer per question."""
        results: list[conductor_pb2.QueryResult] = []
        for query in request.queries:
            results.append(self.answer(query))
            if self.after_read is not None:
                await self.after_read(query)
        return conductor_pb2.ReadResponse(results=results)

    async def ReadChanges(
        self, request: conductor_pb2.ReadChangesRequest, context: Any
    ) -> conductor_pb2.ReadChangesResponse:
        """The log by range."""
        after = request.after_revision
        return conductor_pb2.ReadChangesResponse(
            batch=self.batch(self.log[after : after + request.limit])
        )

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
            wanted=self.claims.get(host_id),
        )

    async def ReportInventories(
        self, request: conductor_pb2.ReportInventoriesRequest, context: Any
    ) -> conductor_pb2.ReportInventoriesResponse:
        """Kept in the order in which they came."""
        self.inventories += request.inventories
        live = [self.incarnations.get(i.host_id) == i.incarnation for i in request.inventories]
        return conductor_pb2.ReportInventoriesResponse(superseded=[not one for one in live])

    async def ListUnknownGuests(
        self, request: conductor_pb2.ListUnknownGuestsRequest, context: Any
    ) -> conductor_pb2.ListUnknownGuestsResponse:
        """Nobody is unknown here."""
        return conductor_pb2.ListUnknownGuestsResponse()

    async def Audit(
        self, request: conductor_pb2.AuditRequest, context: Any
    ) -> AsyncIterator[conductor_pb2.AuditResponse]:
        """Nothing differs here."""
        yield conductor_pb2.AuditResponse(done=audit_pb2.AuditDone(hosts=1))

    async def ReadView(
        self, request: conductor_pb2.ReadViewRequest, context: Any
    ) -> conductor_pb2.ReadViewResponse:
        """The view, for the live incarnation."""
        if self.incarnations.get(request.host_id) != request.incarnation:
            refused: CloudError = Conflict("SUPERSEDED", "another agent is live")
            if request.host_id not in self.incarnations:
                refused = NotFound("HOST_NOT_FOUND", "there is no such host")
            return conductor_pb2.ReadViewResponse(error=item_error(refused))
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
        """What each host should know; refused as long as a test wants it so."""
        if self.beats_to_refuse > 0:
            self.beats_to_refuse -= 1
            raise Unavailable("DATABASE_UNAVAILABLE", "refused by the test")
        return conductor_pb2.BeatResponse(
            results=[
                conductor_pb2.BeatResult(
                    superseded=self.incarnations.get(beat.host_id) != beat.incarnation,
                    wanted_revision=len(self.log),
                )
                for beat in request.beats
            ]
        )
