"""Whatever bytes come, api answers with a reason, keeps running, and changes nothing.

Method: for every method requests drawn from its own descriptor (tests/wire.py), the same at every
run. A failure prints the bytes.
"""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from services.api.edges.servers import SERVICES
from tests.integration.api.cloud import ApiCloud, Refusal
from tests.wire import drawn

REQUESTS = 60
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
# Ids that are well formed, of nothing that there is.
STRANGERS = {"any": [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]}


def methods() -> Iterator[MethodDescriptor]:
    for name in SERVICES:
        yield from descriptor_pool.Default().FindServiceByName(name).methods


async def answered(cloud: ApiCloud, method: MethodDescriptor, requests: int) -> None:
    """Makes odd requests of one method and checks each answer."""
    user = cloud.user("bytes-any", "admin", cloud_admin=method.name != "WatchInstances")
    path = f"/{method.containing_service.full_name}/{method.name}"
    for contents in drawn(method.input_type, STRANGERS, requests):
        if method.client_streaming:
            # The library's client breaks where it writes while the server ends a two-way stream.
            pieces = contents[:1] if method.server_streaming else contents
            call = cloud.channel.stream_stream(path)(
                iter(pieces), metadata=user.metadata, timeout=60
            )
        else:
            call = cloud.channel.unary_stream(path)(contents[0], metadata=user.metadata, timeout=60)
        try:
            await call.read()
            call.cancel()
        except grpc.aio.AioRpcError as error:
            told = Refusal(error)
            assert told.code not in NEVER, (contents, told.message)
            assert told.reason, (contents, told.message)
            assert told.bytes < 4096, contents


@pytest.mark.parametrize("method", list(methods()), ids=lambda m: m.name)
async def test_any_request_is_answered_with_a_reason(
    cloud: ApiCloud, method: MethodDescriptor
) -> None:
    await answered(cloud, method, REQUESTS)
