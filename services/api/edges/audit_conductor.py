"""The conductor's audits: implements `flows.audit.Audits`. Rare calls of their own, no lanes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc

from services.api.edges.conductor_messages import error_from
from services.api.flows.audit import GuestKey, GuestPage, Stretch
from services.domain.errors import Unavailable
from services.runtime import rpc

CALL_S = 15.0
# The whole of a large cloud, with hosts that do not answer.
AUDIT_S = 1800.0


class ConductorAudits:
    """Asks the conductor."""

    def __init__(self, stub: conductor_pb2_grpc.ConductorServiceAsyncStub) -> None:
        self._stub = stub

    async def audit(self, host_id: str) -> AsyncGenerator[Stretch, None]:
        """All differences, in stretches. Raises NotFound (HOST_NOT_FOUND), Unavailable."""
        call = self._stub.Audit(conductor_pb2.AuditRequest(host_id=host_id), timeout=AUDIT_S)
        try:
            async for told in call:
                yield Stretch(told.differences, told.done if told.HasField("done") else None)
        except grpc.aio.AioRpcError as failed:
            error = rpc.error_of(failed)
            if isinstance(error, Unavailable):
                error.message = f"the audit broke off: {error.message}; audit again"
            raise error from failed
        finally:
            call.cancel()

    async def unknown_guests(self, host_id: str, after: GuestKey, limit: int) -> GuestPage:
        """A page of guests. Raises Unavailable."""
        request = conductor_pb2.ListUnknownGuestsRequest(host_id=host_id, limit=limit)
        if after.host_id:
            request.after.host_id = after.host_id
            request.after.instance_id = after.instance_id
            request.after.epoch = after.epoch
        try:
            answer = await self._stub.ListUnknownGuests(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as failed:
            raise rpc.error_of(failed) from failed
        if answer.HasField("error"):
            raise error_from(answer.error)
        more = answer.more_after if answer.HasField("more_after") else None
        key = GuestKey(more.host_id, more.instance_id, more.epoch) if more else None
        return GuestPage(answer.guests, key)
