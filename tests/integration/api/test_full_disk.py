"""A store without room refuses an image, keeps nothing of it, and takes it once there is room."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from stead.v1 import image_pb2

from tests.integration.api.cloud import ApiCloud, refusal, until
from tests.integration.api.uploads import RAW, description, imported, parts

SIZE_BYTES = 4 * 1024 * 1024
# A file system of its own for the store, which any user may mount in a namespace of its own.
ON_A_SMALL_DISK = (
    "unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c",
    f'mount -t tmpfs -o size={SIZE_BYTES} none "$1" && shift && exec "$@"', "sh",
)  # fmt: skip


async def on_a_small_disk(cloud: ApiCloud) -> Path:
    """Lets api run with its store on a small disk; gives the store as seen from outside."""
    await cloud.end_api()
    cloud.wrapper = (*ON_A_SMALL_DISK, str(cloud.images))
    await cloud.start_api()
    assert cloud.process is not None
    await cloud.until_ready()
    store = Path(f"/proc/{cloud.process.pid}/root") / cloud.images.relative_to("/")
    disk = os.statvfs(store)
    assert disk.f_blocks * disk.f_frsize == SIZE_BYTES, "needs user namespaces, see unshare(1)"
    return store


def fill(path: Path) -> None:
    """Takes all the room that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017  # what else happens is raised below
            return


def files(store: Path) -> set[str]:
    found = [path for path in store.rglob("*") if path.is_file()]
    return {path.name for path in found if path.parent.name != "deleted"} - {"lock", "filler"}


def assert_full(refused: Any) -> None:
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")


async def test_a_disk_that_fills_up_during_an_import_is_told_and_leaves_nothing(
    own_cloud: ApiCloud,
) -> None:
    store = await on_a_small_disk(own_cloud)
    user = own_cloud.user("full", "member")
    kept = await imported(user, b"kept" * 1000)
    described = description(RAW)
    filled = asyncio.Event()

    async def halting() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest(description=described)
        await filled.wait()
        async for part in parts(described, RAW):
            if part.WhichOneof("part") == "chunk":
                yield part

    before = len(own_cloud.conductor.log)
    importing = asyncio.ensure_future(refusal(user.ImportImage(halting())))
    await until(lambda: files(store) != {kept.digest})
    fill(store / "filler")
    filled.set()
    assert_full(await importing)
    assert files(store) == {kept.digest}
    assert_full(await refusal(user.ImportImage(parts(described, RAW))))
    assert len(own_cloud.conductor.log) == before
    (store / "filler").unlink()
    image = (await user.ImportImage(parts(described, RAW))).image
    assert files(store) == {kept.digest, image.digest}
    assert (store / image.digest).read_bytes() == RAW


async def test_on_a_full_disk_an_image_can_be_deleted_to_make_room(own_cloud: ApiCloud) -> None:
    store = await on_a_small_disk(own_cloud)
    user = own_cloud.user("room", "member")
    large = RAW * 3
    first = await imported(user, large)
    fill(store / "filler")
    described = description(RAW)
    assert_full(await refusal(user.ImportImage(parts(described, RAW))))
    await user.DeleteImage(
        image_pb2.DeleteImageRequest(request_id=described.request_id, id=first.id)
    )
    assert files(store) == set()
    described.request_id = first.id
    await user.ImportImage(parts(described, RAW))
    assert files(store) == {described.digest}


async def test_an_image_larger_than_the_disk_is_refused_before_its_bytes(
    own_cloud: ApiCloud,
) -> None:
    user = own_cloud.user("huge", "member")
    described = description(RAW, size_bytes=1 << 42)
    assert_full(await refusal(user.ImportImage(parts(described, b""))))
