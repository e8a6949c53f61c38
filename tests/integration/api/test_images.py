"""Imports that are not right change nothing: no row, no file."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from stead.v1 import image_pb2

from services.api.flows.import_image import UPLOADS_MAX
from tests.fakes.conductor_rows import IMAGE
from tests.integration.api.cloud import ApiCloud, refusal, until
from tests.integration.api.uploads import (
    RAW,
    description,
    imported,
    kernel_archive,
    parts,
    qcow2,
)

KERNEL, QCOW2 = image_pb2.IMAGE_KIND_KERNEL, image_pb2.IMAGE_KIND_QCOW2
RAW_KIND = image_pb2.IMAGE_KIND_RAW


def files(cloud: ApiCloud) -> set[str]:
    """What the store holds of images, whole or not."""
    found = [path for path in cloud.images.rglob("*") if path.is_file()]
    return {path.name for path in found if path.parent.name != "deleted"} - {"lock"}


async def only_chunks(content: bytes) -> AsyncIterator[Any]:
    yield image_pb2.ImportImageRequest(chunk=content)


async def only_described() -> AsyncIterator[Any]:
    """Nothing follows."""
    yield image_pb2.ImportImageRequest(description=description(RAW))
    await asyncio.Event().wait()


async def test_images_of_each_kind_come_in(cloud: ApiCloud) -> None:
    user = cloud.user("kinds", "member")
    for kind, content, min_disk_gib in (
        (RAW_KIND, RAW, 1),
        (QCOW2, qcow2(3 << 30), 3),
        (QCOW2, qcow2((3 << 30) + 512), 4),
        (KERNEL, kernel_archive(), 0),
    ):
        image = await imported(user, content, kind=kind)
        assert (image.kind, image.min_disk_gib) == (kind, min_disk_gib)
        assert image.digest in files(cloud)
        assert (cloud.images / image.digest).read_bytes() == content
        assert (cloud.images / image.digest).stat().st_mode & 0o777 == 0o600


async def test_one_image_imported_twice_lies_there_once(cloud: ApiCloud) -> None:
    first = await imported(cloud.user("twice-a", "member"))
    second = await imported(cloud.user("twice-b", "member"))
    assert first.id != second.id
    assert first.digest == second.digest


async def test_one_project_has_so_many_images_on_their_way_in_and_others_come_in(
    cloud: ApiCloud,
) -> None:
    """One more is refused, with when to ask again, and comes in once another has ended."""
    greedy, modest = cloud.user("uploads-a", "member"), cloud.user("uploads-b", "member")
    before = len(files(cloud))
    going_on = [greedy.ImportImage(only_described()) for _ in range(UPLOADS_MAX)]
    await until(lambda: len(files(cloud)) == before + UPLOADS_MAX)
    refused = await refusal(greedy.ImportImage(parts(description(RAW), RAW)))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "TOO_MANY_UPLOADS"
    assert refused.retry_s
    await imported(modest)
    with_modest = len(files(cloud))
    going_on.pop().cancel()
    await until(lambda: len(files(cloud)) == with_modest - 1)
    await imported(greedy)
    for call in going_on:
        call.cancel()
    await until(lambda: len(files(cloud)) == with_modest - UPLOADS_MAX)


OTHER = RAW[::-1]


@pytest.mark.parametrize(
    ("described", "content", "reason", "field"),
    [
        ({}, OTHER, "DIGEST_MISMATCH", "description.digest"),
        ({}, RAW[:-1], "SIZE_MISMATCH", "description.size_bytes"),
        ({}, b"", "SIZE_MISMATCH", "description.size_bytes"),
        ({}, RAW + b"x", "SIZE_MISMATCH", "description.size_bytes"),
        ({"kind": QCOW2}, RAW, "IMAGE_REJECTED", "description.kind"),
        ({"kind": KERNEL}, RAW, "IMAGE_REJECTED", "description.kind"),
    ],
)
async def test_an_upload_that_is_not_as_described_leaves_nothing(
    cloud: ApiCloud, described: dict[str, Any], content: bytes, reason: str, field: str
) -> None:
    user = cloud.user("wrong", "member")
    marked = os.urandom(16) + RAW[16:] if content == RAW else RAW
    content = marked if content == RAW else content
    before, rows = files(cloud), len(cloud.conductor.log)
    refused = await refusal(user.ImportImage(parts(description(marked, **described), content)))
    assert (refused.code, refused.reason, refused.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        [field],
    )
    assert files(cloud) == before
    assert len(cloud.conductor.log) == rows


async def test_an_image_that_refers_to_another_file_is_refused(cloud: ApiCloud) -> None:
    user = cloud.user("refers", "member")
    before = files(cloud)
    for changed in (
        {"backing_at": 104, "backing_bytes": 11},
        {"incompatible": 4},
        {"crypt": 2},
        {"incompatible": 1 << 40},
    ):
        content = qcow2(**changed)
        refused = await refusal(user.ImportImage(parts(description(content, QCOW2), content)))
        assert (refused.reason, refused.fields) == ("IMAGE_REJECTED", ["description.kind"])
        refused = await refusal(user.ImportImage(parts(description(content), content)))
        assert refused.reason == "IMAGE_REJECTED"
        assert "qcow2" in refused.message
    assert files(cloud) == before


async def test_an_upload_begins_with_its_description_and_has_one(cloud: ApiCloud) -> None:
    user = cloud.user("order", "member")
    described = description(RAW)

    async def twice() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest(description=described)
        yield image_pb2.ImportImageRequest(description=described)

    async def empty() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest()

    async def nothing() -> AsyncIterator[Any]:
        for never in ():
            yield never

    async def bad_description() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest(description=description(RAW, digest="x", name="\n"))

    async def large() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest(description=described)
        yield image_pb2.ImportImageRequest(chunk=b"x" * (1024 * 1024 + 1))

    for sent, fields in (
        (only_chunks(RAW), ["description"]),
        (twice(), ["description"]),
        (empty(), ["part"]),
        (nothing(), ["description"]),
        (bad_description(), ["description.name", "description.digest"]),
        (large(), ["chunk"]),
    ):
        refused = await refusal(user.ImportImage(sent))
        assert (refused.code, refused.reason, refused.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            fields,
        )


async def test_only_cloud_admins_make_images_public(cloud: ApiCloud) -> None:
    described = description(RAW, visibility=image_pb2.IMAGE_VISIBILITY_PUBLIC)
    refused = await refusal(cloud.user("public", "admin").ImportImage(parts(described, RAW)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")


async def test_a_refused_row_takes_its_bytes_along_unless_others_need_them(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("names", "member")
    await imported(user, OTHER, name="taken")
    before = files(cloud)
    content = os.urandom(5000)
    refused = await refusal(user.ImportImage(parts(description(content, name="taken"), content)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert files(cloud) == before
    refused = await refusal(user.ImportImage(parts(description(OTHER, name="taken"), OTHER)))
    assert refused.reason == "NAME_TAKEN"
    assert files(cloud) == before


async def test_an_upload_whose_client_goes_leaves_nothing(cloud: ApiCloud) -> None:
    user = cloud.user("goes", "member")
    before = files(cloud)
    begun = asyncio.Event()

    async def hanging() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest(description=description(RAW))
        yield image_pb2.ImportImageRequest(chunk=RAW)
        begun.set()
        await asyncio.sleep(60)

    call = user.ImportImage(hanging())
    await asyncio.wait_for(begun.wait(), 30)
    await until(lambda: files(cloud) != before)
    call.cancel()
    await until(lambda: files(cloud) == before)


async def test_the_same_import_again_is_the_same_image(cloud: ApiCloud) -> None:
    user = cloud.user("replay", "member")
    described = description(RAW)
    first = await user.ImportImage(parts(described, RAW))
    assert await user.ImportImage(parts(described, RAW)) == first
    described.name = "another"
    refused = await refusal(user.ImportImage(parts(described, RAW)))
    assert refused.reason == "REQUEST_ID_REUSED"
    assert cloud.conductor.body(IMAGE, first.image.id).name != "another"
    assert first.image.digest in files(cloud)
