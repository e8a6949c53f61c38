"""A few audits at once and no more: one that ends, or whose caller goes away, makes room."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc

from services.conductor.edges.audit_servicer import AuditFlows, AuditingServicer
from services.conductor.flows.audit import AUDITS_MAX, RETRY_AFTER_S, Auditor
from services.conductor.flows.inventory import Inventorist
from services.conductor.flows.ports import CloudIdentity
from services.domain.errors import NoCapacity
from services.runtime import rpc
from services.runtime.ids import new_id
from tests.integration.conductor.audited import Hosts
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Sent, conductor, hello
from tests.stores import CLOUD


async def test_one_audit_too_many_is_refused_and_one_that_ends_makes_room(place: Place) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, also as the caller of the conductor understands it."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        # Each audit waits for this host, which has a stranger and does not answer.
        hosts = Hosts(made.store.audits, silent={"h1"})
        hosts.has("h1", (new_id(), 1))
        await hosts.greet("h1")
        inventorist = Inventorist(hosts.store, hosts, answer_s=45.0)
        audits = AuditFlows(inventorist, Auditor(hosts.store, inventorist))
        identity = CloudIdentity(CLOUD, "history")
        server = rpc.server()
        conductor_pb2_grpc.add_ConductorServiceServicer_to_server(
            AuditingServicer(made.flows(), made.store, identity, audits), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with rpc.channel(f"127.0.0.1:{port}") as channel:
            stub = conductor_pb2_grpc.ConductorServiceStub(channel)
            request = conductor_pb2.AuditRequest(host_id="h1")
            under_way = [stub.Audit(request) for _ in range(AUDITS_MAX)]
            for call in under_way:
                await call.read()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Audit(request).read()
            refused = rpc.error_of(failed.value)
            assert isinstance(refused, NoCapacity)
            assert (refused.reason, refused.retry_after_s) == ("TOO_MANY_AUDITS", RETRY_AFTER_S)

            under_way.pop().cancel()
            await _accepted(stub, request)
            hosts.silent.clear()
            assert (await _last(under_way[0])).done.hosts == 1
            assert [answer async for answer in stub.Audit(request)][-1].done.hosts == 1
        await server.stop(0)


async def _last(call: Any) -> conductor_pb2.AuditResponse:
    last = conductor_pb2.AuditResponse()
    while (told := await call.read()) is not grpc.aio.EOF:
        last = told
    return last


async def _accepted(
    stub: conductor_pb2_grpc.ConductorServiceAsyncStub, request: conductor_pb2.AuditRequest
) -> None:
    """Asks until the place of the caller that went away is free, then goes away too."""
    async with asyncio.timeout(5):
        while True:
            call = stub.Audit(request)
            try:
                await call.read()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                call.cancel()
                return
