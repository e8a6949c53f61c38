"""What becomes of a failed call between our own services."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import empty_pb2

from services.domain import errors
from services.domain.reasons import REASONS
from services.runtime import rpc

WIRE = {
    "request_deserializer": empty_pb2.Empty.FromString,
    "response_serializer": empty_pb2.Empty.SerializeToString,
}


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (grpc.StatusCode.INTERNAL, errors.Broken, "PEER_FAILED"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Broken, "PEER_FAILED"),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable, "PEER_UNREACHABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Unavailable, "PEER_UNREACHABLE"),
        (grpc.StatusCode.CANCELLED, errors.Unavailable, "PEER_UNREACHABLE"),
    ],
)
async def test_a_peer_that_gives_no_reason_of_ours_has_one_made_for_it(
    code: grpc.StatusCode, kind: type[errors.CloudError], reason: str
) -> None:
    async def fail(request: object, context: grpc.aio.ServicerContext) -> None:
        await context.abort(code, "no details of ours")

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(fail, **WIRE)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", {"Z": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/x.Y/Z", empty_pb2.Empty.SerializeToString)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await ask(empty_pb2.Empty(), timeout=60)
    await server.stop(0)
    error = rpc.error_of(failed.value)
    assert (type(error), error.reason) == (kind, reason)
    assert rpc.CODES[kind].name in REASONS[reason].codes


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert kinds - {errors.CloudError, errors.Mapping} == set(rpc.CODES)
    assert len(set(rpc.CODES.values())) == len(rpc.CODES)
