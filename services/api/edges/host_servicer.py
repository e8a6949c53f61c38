"""stead.v1.HostService: converts, calls a flow, converts back."""

from typing import Any

from stead.v1 import host_pb2 as pb
from stead.v1 import host_pb2_grpc

from services.api.edges import public_messages
from services.api.edges.authentication import caller
from services.api.flows.get_row import get_row
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.ports import Conductor
from services.domain.kinds import ResourceKind


class HostServicer(host_pb2_grpc.HostServiceServicer):
    """The front desk for hosts."""

    def __init__(self, conductor: Conductor, *, page_key: bytes) -> None:
        self._conductor = conductor
        self._page_key = page_key

    async def GetHost(self, request: pb.GetHostRequest, context: Any) -> pb.GetHostResponse:
        """Shows one host."""
        row = await get_row(self._conductor, caller(), ResourceKind.HOST, request.id)
        return pb.GetHostResponse(host=public_messages.host(row))

    async def ListHosts(self, request: pb.ListHostsRequest, context: Any) -> pb.ListHostsResponse:
        """Lists hosts."""
        ask = ListAsk(ResourceKind.HOST, request.page_size, request.page_token)
        rows, token = await list_rows(self._conductor, caller(), ask, page_key=self._page_key)
        return pb.ListHostsResponse(
            hosts=[public_messages.host(row) for row in rows], next_page_token=token
        )
