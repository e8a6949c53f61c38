"""stead.v1.AuditService: converts, calls a flow, converts back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from stead.v1 import audit_pb2 as pb
from stead.v1 import audit_pb2_grpc

from services.api.edges import present_call
from services.api.edges.desk import Desk
from services.api.edges.public_messages import fill_host, fill_operation
from services.api.flows.audit import Audits, GuestAsk, audit, list_unknown_guests


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """The front desk for audits."""

    def __init__(self, desk: Desk, audits: Audits) -> None:
        self._desk = desk
        self._audits = audits

    async def Audit(
        self, request: pb.AuditRequest, context: Any
    ) -> AsyncGenerator[pb.AuditResponse, None]:
        """Streams differences, then how much was compared."""
        told = 0
        async with aclosing(audit(self._audits, request.host_id)) as stretches:
            async for stretch in stretches:
                present_call.recheck()
                for found in stretch.differences:
                    told += 1
                    yield pb.AuditResponse(difference=cast("pb.Difference", found))
                if stretch.done is not None:
                    done = cast("pb.AuditDone", stretch.done)
                    done.differences = told
                    yield pb.AuditResponse(done=done)

    async def ListUnknownGuests(
        self, request: pb.ListUnknownGuestsRequest, context: Any
    ) -> pb.ListUnknownGuestsResponse:
        """Lists guests that nobody claims."""
        ask = GuestAsk(request.host_id, request.page_size, request.page_token)
        key = self._desk.page_key
        guests, token = await list_unknown_guests(self._audits, ask, page_key=key)
        found = [cast("pb.UnknownGuest", guest) for guest in guests]
        return pb.ListUnknownGuestsResponse(guests=found, next_page_token=token)

    async def DiscardGuest(
        self, request: pb.DiscardGuestRequest, context: Any
    ) -> pb.DiscardGuestResponse:
        """Records that a guest may go."""
        accepted = await self._desk.accept(request)
        response = pb.DiscardGuestResponse()
        fill_host(response.host, accepted.resource)
        if accepted.operation is not None:
            fill_operation(response.operation, accepted.operation)
        return response
