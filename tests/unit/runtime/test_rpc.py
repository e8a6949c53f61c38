"""What becomes of a failed call between our own services."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

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


TEXTS = st.text(max_size=3000)


@given(TEXTS, TEXTS, st.dictionaries(st.text(max_size=100), TEXTS, max_size=50))
def test_a_status_is_under_4_kib_whatever_is_told(
    message: str, field: str, metadata: dict[str, str]
) -> None:
    """Reason and kind always come through; of what is told, the beginning."""
    error = errors.NoCapacity("LANE_FULL", message, field=field[:200], metadata=metadata)
    status = rpc.status_of(error)
    assert status.ByteSize() < 4096
    assert message.startswith(status.message)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "LANE_FULL"
    assert all(metadata[key].startswith(value) for key, value in info.metadata.items())


def test_what_fits_is_told_whole() -> None:
    metadata = {"id": "x" * 36, "resume_token": "t" * 200, "cause": "c" * 500}
    status = rpc.status_of(
        errors.WrongState("INVALID_INSTANCE_STATE", "not now", metadata=metadata)
    )
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert dict(info.metadata) == metadata
