"""The road of bytes: a host gets whole images, and only those that one of its claims names."""

from typing import Any

import grpc
from stead.internal.v1 import compute_pb2 as pb

from tests.engines import PATIENCE_S
from tests.integration.api.cloud import ApiCloud, Refusal, new_id, refusal
from tests.integration.api.test_ingress import agent
from tests.integration.api.uploads import RAW, imported


def claim_naming(digest: str) -> pb.Wanted:
    image = pb.ImageReference(digest=digest)
    return pb.Wanted(instance_id=new_id(), epoch=1, spec=pb.Spec(present=True, image=image))


def blob_ask(host_id: str, digest: str, offset: int = 0, incarnation: int = 1) -> Any:
    return pb.FetchBlobRequest(
        host_id=host_id, incarnation=incarnation, digest=digest, offset=offset
    )


async def fetched(cloud: ApiCloud, host_id: str, digest: str) -> bytes | str:
    """The bytes that a host gets for a digest, or why it gets none."""
    call = cloud.ingress.FetchBlob(blob_ask(host_id, digest), timeout=PATIENCE_S)
    try:
        return b"".join([piece.chunk async for piece in call])
    except grpc.aio.AioRpcError as error:
        return Refusal(error).reason


async def test_a_blob_is_fetched_whole_or_from_an_offset(cloud: ApiCloud) -> None:
    image = await imported(cloud.user("bytes", "member"))
    names = (image.digest, "0" * 64, "../" * 20 + "etc/passwd", "incoming")
    cloud.conductor.claims["h-bytes"] = [claim_naming(name) for name in names]
    async with agent(cloud, "h-bytes") as host:
        await host.hello()
        for offset in (0, 1, 300_000, len(RAW)):
            fetched = cloud.ingress.FetchBlob(blob_ask("h-bytes", image.digest, offset))
            pieces = [piece.chunk async for piece in fetched]
            assert b"".join(pieces) == RAW[offset:]
            assert all(len(piece) <= 256 * 1024 for piece in pieces)
        for digest, offset, reason in (
            (names[1], 0, "BLOB_NOT_FOUND"),
            (names[0], len(RAW) + 1, "INVALID_FIELD"),
            (names[0], -1, "INVALID_FIELD"),
            (names[2], 0, "INVALID_FIELD"),
            (names[3], 0, "INVALID_FIELD"),
        ):
            fetched = cloud.ingress.FetchBlob(blob_ask("h-bytes", digest, offset))
            assert (await refusal(fetched)).reason == reason


async def test_a_host_gets_only_bytes_that_one_of_its_claims_names(cloud: ApiCloud) -> None:
    user = cloud.user("named", "member")
    own = (await imported(user, RAW + b"own")).digest
    foreign = (await imported(user, RAW + b"foreign")).digest
    cloud.conductor.claims["h-own"] = [claim_naming(own)]
    cloud.conductor.claims["h-foreign"] = [claim_naming(foreign)]
    async with agent(cloud, "h-own") as host, agent(cloud, "h-foreign") as other:
        await host.hello()
        await other.hello()
        fetched = cloud.ingress.FetchBlob(blob_ask("h-own", own))
        assert b"".join([piece.chunk async for piece in fetched]) == RAW + b"own"
        refusals = [
            await refusal(cloud.ingress.FetchBlob(blob_ask(host_id, digest)))
            for host_id, digest in (
                ("h-own", foreign),
                ("h-foreign", own),
                ("h-unknown", own),
                ("", own),
                ("h-own", "f" * 64),
            )
        ]
        assert {(r.code, r.reason, r.message) for r in refusals} == {
            (
                grpc.StatusCode.NOT_FOUND,
                "BLOB_NOT_FOUND",
                "there is no blob of this digest",
            )
        }
        for incarnation in (0, 2):
            refused = await refusal(
                cloud.ingress.FetchBlob(blob_ask("h-own", own, incarnation=incarnation))
            )
            assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "SUPERSEDED")
