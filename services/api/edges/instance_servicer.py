"""stead.v1.InstanceService: converts, calls a flow, converts back."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from stead.v1 import instance_pb2 as pb

from services.api.edges import console_messages, public_messages
from services.api.edges.batch import error_of_batch, fill_results, fingerprint_of, wishes_of
from services.api.edges.desk import Desk
from services.api.edges.power_calls import PowerCalls, filled
from services.api.edges.watch_messages import ask_from, fill_run
from services.api.flows.list_rows import ListAsk
from services.api.flows.open_console import open_console
from services.api.flows.read_console import ConsoleAsk, ConsoleRoad, read_console
from services.api.flows.watch_rows import Changed, Existing, Left, WatchEvent
from services.domain.errors import Invalid
from services.domain.kinds import ResourceKind

# The answer repeats what was wished, and adds up to some 1,300 bytes for each of 1,000: a client
# that was left as it is takes 4 MiB.
BATCH_BYTES_MAX = 2 * 1024 * 1024


class InstanceServicer(PowerCalls):
    """The front desk for instances."""

    def __init__(self, desk: Desk, road: ConsoleRoad) -> None:
        super().__init__(desk)
        self._road = road

    async def CreateInstance(
        self, request: pb.CreateInstanceRequest, context: Any
    ) -> pb.CreateInstanceResponse:
        """Accepts a new instance."""
        return filled(pb.CreateInstanceResponse(), await self._desk.accept(request), self._desk)

    async def BatchCreateInstances(
        self, request: pb.BatchCreateInstancesRequest, context: Any
    ) -> pb.BatchCreateInstancesResponse:
        """Accepts new instances, each for itself."""
        caller = self._desk.caller
        if request.ByteSize() > BATCH_BYTES_MAX:
            raise Invalid(
                "INVALID_FIELD",
                f"a batch has at most {BATCH_BYTES_MAX} bytes; make several of it",
                field="instances",
            )
        results = await self._desk.conductor.batch_accept(
            caller, wishes_of(request), fingerprint_of(request)
        )
        refused = error_of_batch(results)
        if refused is not None:
            raise refused
        response = pb.BatchCreateInstancesResponse()
        fill_results(response, results, caller)
        return response

    async def GetInstance(
        self, request: pb.GetInstanceRequest, context: Any
    ) -> pb.GetInstanceResponse:
        """Shows one instance."""
        row = await self._desk.row(ResourceKind.INSTANCE, request.id)
        response = pb.GetInstanceResponse()
        public_messages.fill_instance(response.instance, row, self._desk.caller)
        return response

    async def ListInstances(
        self, request: pb.ListInstancesRequest, context: Any
    ) -> pb.ListInstancesResponse:
        """Lists living instances."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.INSTANCE,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
                request.all_projects,
            )
        )
        response = pb.ListInstancesResponse(
            next_page_token=page.next_page_token,
            revision=page.revision,
            resume_token=page.resume_token,
        )
        caller = self._desk.caller
        for row in page.rows:
            public_messages.fill_instance(response.instances.add(), row, caller)
        return response

    async def UpdateInstance(
        self, request: pb.UpdateInstanceRequest, context: Any
    ) -> pb.UpdateInstanceResponse:
        """Changes name or labels."""
        return filled(pb.UpdateInstanceResponse(), await self._desk.accept(request), self._desk)

    async def EvacuateInstance(
        self, request: pb.EvacuateInstanceRequest, context: Any
    ) -> pb.EvacuateInstanceResponse:
        """Builds an instance of a dead host elsewhere."""
        return filled(pb.EvacuateInstanceResponse(), await self._desk.accept(request), self._desk)

    async def DeleteInstance(
        self, request: pb.DeleteInstanceRequest, context: Any
    ) -> pb.DeleteInstanceResponse:
        """Deletes an instance."""
        return filled(pb.DeleteInstanceResponse(), await self._desk.accept(request), self._desk)

    async def WatchInstances(
        self, request: pb.WatchInstancesRequest, context: Any
    ) -> AsyncGenerator[pb.WatchInstancesResponse, None]:
        """Streams a snapshot, then changes."""
        ask = ask_from(ResourceKind.INSTANCE, request, all_projects=request.all_projects)
        async with aclosing(self._desk.events(ask)) as runs:
            async for run in runs:
                told = pb.WatchInstancesResponse()
                fill_run(told, run, self._place)
                yield told

    async def GetConsoleOutput(
        self, request: pb.GetConsoleOutputRequest, context: Any
    ) -> pb.GetConsoleOutputResponse:
        """Reads the end of the console."""
        console = await read_console(
            self._desk.conductor,
            self._road,
            self._desk.caller,
            ConsoleAsk(request.id, request.max_bytes),
            host_of=public_messages.host_of,
        )
        return pb.GetConsoleOutputResponse(
            output=console.content.decode("utf-8", "replace"),
            start_offset=console.start_offset,
            end_offset=console.start_offset + len(console.content),
        )

    async def OpenConsole(
        self, request_iterator: AsyncIterator[pb.OpenConsoleRequest], context: Any
    ) -> AsyncGenerator[pb.OpenConsoleResponse, None]:
        """Joins the caller to the serial console."""
        said = console_messages.said(request_iterator)
        host_of = public_messages.host_of
        desk = self._desk
        words = open_console(desk.conductor, self._road, desk.caller, said, host_of=host_of)
        async with aclosing(words):
            async for word in words:
                yield console_messages.told(word)

    def _place(self, told: pb.WatchInstancesResponse, event: WatchEvent) -> None:
        caller = self._desk.caller
        match event:
            case Existing():
                public_messages.fill_instance(told.existing, event.row, caller)
            case Changed():
                public_messages.fill_instance(told.change.instance, event.row, caller)
            case Left():
                public_messages.fill_instance(told.left.instance, event.row, caller)
