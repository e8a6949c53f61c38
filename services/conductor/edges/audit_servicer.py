"""ConductorService whole: what hosts say that they have, and audits, beside everything else."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from stead.internal.v1 import conductor_pb2

from services.conductor.edges import audit_messages, messages
from services.conductor.edges.servicer import ConductorServicer, Flows
from services.conductor.flows.audit import Auditor
from services.conductor.flows.inventory import Inventorist
from services.conductor.flows.ports import CloudIdentity, Store
from services.domain.errors import CloudError

INVENTORIES_MAX = 16


@dataclass(frozen=True, slots=True)
class AuditFlows:
    """What the servicer calls besides."""

    inventorist: Inventorist
    auditor: Auditor


class AuditingServicer(ConductorServicer):
    """Answers also about inventories and audits."""

    def __init__(
        self, flows: Flows, store: Store, cloud: CloudIdentity, audits: AuditFlows
    ) -> None:
        super().__init__(flows, store, cloud)
        self._audits = audits

    async def Greet(
        self, request: conductor_pb2.GreetRequest, context: Any
    ) -> conductor_pb2.GreetResponse:
        """Keeps also which guests the host finds."""
        response = await super().Greet(request, context)
        if response.HasField("view"):
            told = audit_messages.greeting_from(request.hello, response.view.incarnation)
            await self._audits.inventorist.take_greeting(told)
        return response

    async def ReportInventories(
        self, request: conductor_pb2.ReportInventoriesRequest, context: Any
    ) -> conductor_pb2.ReportInventoriesResponse:
        """Keeps what hosts say that they have."""
        told = [audit_messages.inventory_from(i) for i in request.inventories[:INVENTORIES_MAX]]
        live = [await self._audits.inventorist.take(inventory) for inventory in told]
        return conductor_pb2.ReportInventoriesResponse(superseded=[not one for one in live])

    async def ListUnknownGuests(
        self, request: conductor_pb2.ListUnknownGuestsRequest, context: Any
    ) -> conductor_pb2.ListUnknownGuestsResponse:
        """Lists guests that nobody claims."""
        try:
            found, more = await self._audits.inventorist.unknown(
                request.host_id, audit_messages.after_from(request), request.limit
            )
        except CloudError as error:
            return conductor_pb2.ListUnknownGuestsResponse(error=messages.item_error(error))
        return audit_messages.unknown_guests(found, more)

    async def Audit(
        self, request: conductor_pb2.AuditRequest, context: Any
    ) -> AsyncIterator[conductor_pb2.AuditResponse]:
        """Streams differences."""
        async with aclosing(self._audits.auditor.audit(request.host_id)) as all_:
            async for found in all_:
                yield audit_messages.audit_response(found)
