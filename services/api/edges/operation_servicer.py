"""stead.v1.OperationService: converts, calls a flow, converts back."""

from collections.abc import AsyncIterator
from typing import Any

from stead.v1 import operation_pb2 as pb
from stead.v1 import operation_pb2_grpc

from services.api.edges import present_call
from services.api.edges.desk import Desk, bookmark_s
from services.api.edges.public_messages import fill_operation, is_ended
from services.api.flows.list_rows import ListAsk
from services.api.flows.wait_operation import DEFAULT_S, WaitAsk
from services.api.flows.watch_rows import (
    Bookmark,
    Changed,
    Existing,
    Left,
    SnapshotDone,
    WatchAsk,
    WatchEvent,
)
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
    ) -> AsyncIterator[pb.WatchOperationResponse]:
        """Streams one operation up to its end."""
        async for row in self._desk.versions(request.id, is_ended):
            response = pb.WatchOperationResponse()
            fill_operation(response.operation, row)
            yield response

    async def WatchOperations(
        self, request: pb.WatchOperationsRequest, context: Any
    ) -> AsyncIterator[pb.WatchOperationsResponse]:
        """Streams what is under way, then changes."""
        interval = request.bookmark_interval if request.HasField("bookmark_interval") else None
        ask = WatchAsk(
            ResourceKind.OPERATION,
            request.filter,
            request.resume_token,
            request.all_projects,
            bookmark_s(interval),
            present_call.recheck,
        )
        async for event in self._desk.events(ask):
            yield _told(event)

    async def CancelOperation(
        self, request: pb.CancelOperationRequest, context: Any
    ) -> pb.CancelOperationResponse:
        """Calls an operation off."""
        accepted = await self._desk.accept(request)
        response = pb.CancelOperationResponse()
        fill_operation(response.operation, accepted.operation or accepted.resource)
        return response


def _told(event: WatchEvent) -> pb.WatchOperationsResponse:
    told = pb.WatchOperationsResponse(revision=event.revision, resume_token=event.resume_token)
    match event:
        case Existing():
            fill_operation(told.existing, event.row)
        case SnapshotDone():
            told.snapshot_done.SetInParent()
            told.snapshot_done.count = event.count
        case Changed():
            fill_operation(told.change, event.row)
        case Left():
            fill_operation(told.left, event.row)
        case Bookmark():
            told.bookmark.SetInParent()
    return told
