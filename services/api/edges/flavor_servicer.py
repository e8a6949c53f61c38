"""stead.v1.FlavorService: converts, calls a flow, converts back."""

from typing import Any

from stead.v1 import flavor_pb2 as pb
from stead.v1 import flavor_pb2_grpc, operation_pb2

from services.api.edges.desk import Desk
from services.api.edges.public_messages import fill_flavor, fill_operation
from services.api.flows.list_rows import ListAsk
from services.api.flows.ports import Accepted
from services.domain.kinds import ResourceKind


class FlavorServicer(flavor_pb2_grpc.FlavorServiceServicer):
    """The front desk for flavors."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateFlavor(
        self, request: pb.CreateFlavorRequest, context: Any
    ) -> pb.CreateFlavorResponse:
        """Offers a new size."""
        response = pb.CreateFlavorResponse()
        _fill(response.flavor, response.operation, await self._desk.accept(request))
        return response

    async def GetFlavor(self, request: pb.GetFlavorRequest, context: Any) -> pb.GetFlavorResponse:
        """Shows one size."""
        response = pb.GetFlavorResponse()
        fill_flavor(response.flavor, await self._desk.row(ResourceKind.FLAVOR, request.id))
        return response

    async def ListFlavors(
        self, request: pb.ListFlavorsRequest, context: Any
    ) -> pb.ListFlavorsResponse:
        """Lists the sizes on offer."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.FLAVOR,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
            )
        )
        response = pb.ListFlavorsResponse(
            next_page_token=page.next_page_token, revision=page.revision
        )
        for row in page.rows:
            fill_flavor(response.flavors.add(), row)
        return response

    async def DeleteFlavor(
        self, request: pb.DeleteFlavorRequest, context: Any
    ) -> pb.DeleteFlavorResponse:
        """Takes a size off the offer."""
        response = pb.DeleteFlavorResponse()
        _fill(response.flavor, response.operation, await self._desk.accept(request))
        return response


def _fill(flavor: pb.Flavor, operation: operation_pb2.Operation, accepted: Accepted) -> None:
    fill_flavor(flavor, accepted.resource)
    if accepted.operation is not None:
        fill_operation(operation, accepted.operation)
