"""stead.v1.OperationService: converts, calls a flow, converts back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from stead.v1 import operation_pb2 as pb
from stead.v1 import operation_pb2_grpc

from services.api.edges.desk import Desk
from services.api.edges.public_messages import fill_operation, is_ended
from services.api.edges.watch_messages import ask_from, fill_run
from services.api.flows.list_rows import ListAsk
from services.api.flows.wait_operation import DEFAULT_S, WaitAsk
from services.api.flows.watch_rows import Changed, Existing, Left, WatchEvent
from services.domain.kinds import ResourceKind


class OperationServicer(operation_pb2_grpc.OperationServiceServicer):
    """The front desk for operations."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetOperation(
        self, request: pb.GetOperationRequest, context: Any
    ) -> pb.GetOperationResponse:
        """Shows one operation."""
        row = await self._desk.row(ResourceKind.OPERATION, request.id)
        response = pb.GetOperationResponse()
        fill_operation(response.operation, row)
        return response

    async def ListOperations(
        self, request: pb.ListOperationsRequest, context: Any
    ) -> pb.ListOperationsResponse:
        """Lists operations."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.OPERATION,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
                request.all_projects,
            )
        )
        response = pb.ListOperationsResponse(
            next_page_token=page.next_page_token,
            revision=page.revision,
            resume_token=page.resume_token,
        )
        for row in page.rows:
            fill_operation(response.operations.add(), row)
        return response

    async def WaitOperation(
        self, request: pb.WaitOperationRequest, context: Any
    ) -> pb.WaitOperationResponse:
        """Answers when the operation has ended, or after the timeout."""
        timeout_s = DEFAULT_S
        if request.HasField("timeout"):
            timeout_s = request.timeout.ToNanoseconds() / 1e9
        row = await self._desk.waited(WaitAsk(request.id, timeout_s), is_ended)
        response = pb.WaitOperationResponse()
        fill_operation(response.operation, row)
        return response

    async def WatchOperation(
        self, request: pb.WatchOperationRequest, context: Any
    ) -> AsyncGenerator[pb.WatchOperationResponse, None]:
        """Streams one operation up to its end."""
        async with aclosing(self._desk.versions(request.id, is_ended)) as versions:
            async for row in versions:
                response = pb.WatchOperationResponse()
                fill_operation(response.operation, row)
                yield response

    async def WatchOperations(
        self, request: pb.WatchOperationsRequest, context: Any
    ) -> AsyncGenerator[pb.WatchOperationsResponse, None]:
        """Streams what is under way, then changes."""
        ask = ask_from(ResourceKind.OPERATION, request, all_projects=request.all_projects)
        async with aclosing(self._desk.events(ask)) as runs:
            async for run in runs:
                told = pb.WatchOperationsResponse()
                fill_run(told, run, _place)
                yield told

    async def CancelOperation(
        self, request: pb.CancelOperationRequest, context: Any
    ) -> pb.CancelOperationResponse:
        """Calls an operation off."""
        accepted = await self._desk.accept(request)
        response = pb.CancelOperationResponse()
        fill_operation(response.operation, accepted.operation or accepted.resource)
        return response


def _place(told: pb.WatchOperationsResponse, event: WatchEvent) -> None:
    match event:
        case Existing():
            fill_operation(told.existing, event.row)
        case Changed():
            fill_operation(told.change, event.row)
        case Left():
            fill_operation(told.left, event.row)
