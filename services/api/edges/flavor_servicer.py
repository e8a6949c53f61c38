"""stead.v1.FlavorService: converts, calls a flow, converts back."""

from typing import Any

from stead.v1 import flavor_pb2 as pb
from stead.v1 import flavor_pb2_grpc

from services.api.edges import public_messages
from services.api.edges.authentication import caller
from services.api.flows.get_row import get_row
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.ports import Conductor
from services.domain.kinds import ResourceKind


class FlavorServicer(flavor_pb2_grpc.FlavorServiceServicer):
    """The front desk for flavors."""

    def __init__(self, conductor: Conductor, *, page_key: bytes) -> None:
        self._conductor = conductor
        self._page_key = page_key

    async def CreateFlavor(
        self, request: pb.CreateFlavorRequest, context: Any
    ) -> pb.CreateFlavorResponse:
        """Offers a new size."""
        accepted = await self._conductor.wish_accept(caller(), request)
        return pb.CreateFlavorResponse(
            flavor=public_messages.flavor(accepted.resource),
            operation=public_messages.operation(accepted.operation),
        )

    async def GetFlavor(self, request: pb.GetFlavorRequest, context: Any) -> pb.GetFlavorResponse:
        """Shows one size."""
        row = await get_row(self._conductor, caller(), ResourceKind.FLAVOR, request.id)
        return pb.GetFlavorResponse(flavor=public_messages.flavor(row))

    async def ListFlavors(
        self, request: pb.ListFlavorsRequest, context: Any
    ) -> pb.ListFlavorsResponse:
        """Lists the sizes on offer."""
        ask = ListAsk(ResourceKind.FLAVOR, request.page_size, request.page_token, request.filter)
        rows, token = await list_rows(self._conductor, caller(), ask, page_key=self._page_key)
        return pb.ListFlavorsResponse(
            flavors=[public_messages.flavor(row) for row in rows], next_page_token=token
        )

    async def DeleteFlavor(
        self, request: pb.DeleteFlavorRequest, context: Any
    ) -> pb.DeleteFlavorResponse:
        """Takes a size off the offer."""
        accepted = await self._conductor.wish_accept(caller(), request)
        return pb.DeleteFlavorResponse(
            flavor=public_messages.flavor(accepted.resource),
            operation=public_messages.operation(accepted.operation),
        )
