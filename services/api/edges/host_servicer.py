"""stead.v1.HostService: converts, calls a flow, converts back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from stead.v1 import host_pb2 as pb
from stead.v1 import host_pb2_grpc, operation_pb2

from services.api.edges.desk import Desk
from services.api.edges.public_messages import fill_host, fill_operation
from services.api.edges.watch_messages import ask_from, fill_run
from services.api.flows.list_rows import ListAsk
from services.api.flows.ports import Accepted
from services.api.flows.watch_rows import Changed, Existing, Left, WatchEvent
from services.domain.kinds import ResourceKind


class HostServicer(host_pb2_grpc.HostServiceServicer):
    """The front desk for hosts."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetHost(self, request: pb.GetHostRequest, context: Any) -> pb.GetHostResponse:
        """Shows one host."""
        response = pb.GetHostResponse()
        fill_host(response.host, await self._desk.row(ResourceKind.HOST, request.id))
        return response

    async def ListHosts(self, request: pb.ListHostsRequest, context: Any) -> pb.ListHostsResponse:
        """Lists hosts."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.HOST,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
            )
        )
        response = pb.ListHostsResponse(
            next_page_token=page.next_page_token,
            revision=page.revision,
            resume_token=page.resume_token,
        )
        for row in page.rows:
            fill_host(response.hosts.add(), row)
        return response

    async def WatchHosts(
        self, request: pb.WatchHostsRequest, context: Any
    ) -> AsyncGenerator[pb.WatchHostsResponse, None]:
        """Streams every host, then changes."""
        ask = ask_from(ResourceKind.HOST, request)
        async with aclosing(self._desk.events(ask)) as runs:
            async for run in runs:
                told = pb.WatchHostsResponse()
                fill_run(told, run, _place)
                yield told

    async def EnableHost(
        self, request: pb.EnableHostRequest, context: Any
    ) -> pb.EnableHostResponse:
        """Opens a host for new instances."""
        response = pb.EnableHostResponse()
        _fill(response.host, response.operation, await self._desk.accept(request))
        return response

    async def DisableHost(
        self, request: pb.DisableHostRequest, context: Any
    ) -> pb.DisableHostResponse:
        """Closes a host for new instances."""
        response = pb.DisableHostResponse()
        _fill(response.host, response.operation, await self._desk.accept(request))
        return response

    async def FenceHost(self, request: pb.FenceHostRequest, context: Any) -> pb.FenceHostResponse:
        """Takes an admin's word that a host is dead."""
        response = pb.FenceHostResponse()
        _fill(response.host, response.operation, await self._desk.accept(request))
        return response

    async def RemoveHost(
        self, request: pb.RemoveHostRequest, context: Any
    ) -> pb.RemoveHostResponse:
        """Forgets a host."""
        response = pb.RemoveHostResponse()
        _fill(response.host, response.operation, await self._desk.accept(request))
        return response


def _fill(host: pb.Host, operation: operation_pb2.Operation, accepted: Accepted) -> None:
    fill_host(host, accepted.resource)
    if accepted.operation is not None:
        fill_operation(operation, accepted.operation)


def _place(told: pb.WatchHostsResponse, event: WatchEvent) -> None:
    match event:
        case Existing():
            fill_host(told.existing, event.row)
        case Changed():
            fill_host(told.change, event.row)
        case Left():
            fill_host(told.left, event.row)
