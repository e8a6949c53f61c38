"""stead.v1.OperationService: converts, calls a flow, converts back."""

from typing import Any

from stead.v1 import operation_pb2 as pb
from stead.v1 import operation_pb2_grpc

from services.api.edges import public_messages
from services.api.edges.authentication import caller
from services.api.flows.follow_changes import Hub
from services.api.flows.get_row import get_row
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.ports import Conductor
from services.api.flows.wait_operation import DEFAULT_S, WaitAsk, wait_operation
from services.domain.kinds import ResourceKind


class OperationServicer(operation_pb2_grpc.OperationServiceServicer):
    """The front desk for operations."""

    def __init__(self, conductor: Conductor, *, page_key: bytes, hub: Hub) -> None:
        self._conductor = conductor
        self._page_key = page_key
        self._hub = hub

    async def GetOperation(
        self, request: pb.GetOperationRequest, context: Any
    ) -> pb.GetOperationResponse:
        """Shows one operation."""
        row = await get_row(self._conductor, caller(), ResourceKind.OPERATION, request.id)
        return pb.GetOperationResponse(operation=public_messages.operation(row))

    async def ListOperations(
        self, request: pb.ListOperationsRequest, context: Any
    ) -> pb.ListOperationsResponse:
        """Lists operations."""
        ask = ListAsk(
            ResourceKind.OPERATION,
            request.page_size,
            request.page_token,
            request.filter,
            request.all_projects,
        )
        rows, token = await list_rows(self._conductor, caller(), ask, page_key=self._page_key)
        return pb.ListOperationsResponse(
            operations=[public_messages.operation(row) for row in rows], next_page_token=token
        )

    async def WaitOperation(
        self, request: pb.WaitOperationRequest, context: Any
    ) -> pb.WaitOperationResponse:
        """Answers when the operation has ended, or after the timeout."""
        timeout_s = DEFAULT_S
        if request.HasField("timeout"):
            timeout_s = request.timeout.ToNanoseconds() / 1e9
        row = await wait_operation(
            self._conductor,
            self._hub,
            caller(),
            WaitAsk(request.id, timeout_s),
            is_ended=public_messages.is_ended,
        )
        return pb.WaitOperationResponse(operation=public_messages.operation(row))
