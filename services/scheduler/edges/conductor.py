"""The conductor, asked over gRPC for rows and for the log."""

from collections.abc import Awaitable
from typing import TypeVar

import grpc
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc, resource_pb2

from services.domain.errors import Broken
from services.runtime.rpc import error_of
from services.scheduler.edges.feed import batch_from, host_from
from services.scheduler.flows.ports import ChangeBatch, HostPage

DEADLINE_S = 5.0
PAGE_HOSTS = 500

Answer = TypeVar("Answer")


class Conductor:
    """Implements `flows.ports.Rows`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = conductor_pb2_grpc.ConductorServiceStub(channel)
        self._caller = conductor_pb2.Caller(subject="scheduler", cloud_admin=True)

    async def host_page(self, after_id: str) -> HostPage:
        query = conductor_pb2.Query(
            caller=self._caller,
            kind=resource_pb2.RESOURCE_KIND_HOST,
            after_id=after_id,
            limit=PAGE_HOSTS,
        )
        request = conductor_pb2.ReadRequest(queries=[query])
        response = await _answer(self._stub.Read(request, timeout=DEADLINE_S))
        if len(response.results) != 1:
            raise Broken("BUG", "the conductor answered another number of queries than asked")
        result = response.results[0]
        return HostPage(
            hosts=[host_from(resource) for resource in result.resources],
            revision=result.revision,
            more=result.more,
        )

    async def change_range(self, after_revision: int, limit: int) -> ChangeBatch:
        request = conductor_pb2.ReadChangesRequest(after_revision=after_revision, limit=limit)
        response = await _answer(self._stub.ReadChanges(request, timeout=DEADLINE_S))
        return batch_from(response.batch)


async def _answer(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as failed:
        raise error_of(failed) from failed
