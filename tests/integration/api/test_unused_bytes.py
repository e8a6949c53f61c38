"""Bytes of images stay as long as someone needs them, and no longer."""

import os
import time
from pathlib import Path

from stead.v1 import image_pb2, instance_pb2

from tests.integration.api.cloud import ApiCloud, User, new_id, until
from tests.integration.api.test_api_service import created
from tests.integration.api.test_images import files
from tests.integration.api.uploads import imported

GONE = instance_pb2.INSTANCE_STATE_DELETED


async def delete(who: User, image_id: str) -> None:
    await who.DeleteImage(image_pb2.DeleteImageRequest(request_id=new_id(), id=image_id))


def make_old(path: Path) -> None:
    then_s = time.time() - 2 * 3600
    os.utime(path, (then_s, then_s))


async def test_the_bytes_of_a_deleted_image_go_once_nobody_needs_them(cloud: ApiCloud) -> None:
    user, other = cloud.user("bytes-a", "member"), cloud.user("bytes-b", "member")
    content = os.urandom(3000)
    first, second = await imported(user, content), await imported(other, content)
    await delete(user, first.id)
    assert first.digest in files(cloud)
    instance = (await created(cloud, other, image_id=second.id)).instance
    await delete(other, second.id)
    assert first.digest in files(cloud)
    await cloud.conductor.change_instance(instance.id, state=GONE)
    third = await imported(user, content)
    await delete(user, third.id)
    assert first.digest not in files(cloud)
    assert not list((cloud.images / "deleted").glob(f"{first.digest}.*"))


async def test_deleting_another_image_of_the_same_bytes_leaves_them_to_living_instances(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("bytes-c", "member")
    content = os.urandom(3000)
    first = await imported(user, content)
    await created(cloud, user, image_id=first.id)
    await delete(user, first.id)
    second = await imported(user, content)
    await delete(user, second.id)
    assert first.digest in files(cloud)


async def test_old_bytes_that_nobody_needs_are_swept(own_cloud: ApiCloud) -> None:
    user = own_cloud.user("sweep", "member")
    needed = await imported(user, os.urandom(3000))
    used = await imported(user, os.urandom(3000))
    left = await imported(user, os.urandom(3000))
    for image in (used, left):
        instance = (await created(own_cloud, user, image_id=image.id)).instance
        await delete(user, image.id)
    await own_cloud.conductor.change_instance(instance.id, state=GONE)
    never_registered, fresh = "a" * 64, "b" * 64
    for digest in (never_registered, fresh):
        (own_cloud.images / digest).write_bytes(b"x")
    for digest in (needed.digest, used.digest, left.digest, never_registered):
        make_old(own_cloud.images / digest)
    before = files(own_cloud)
    assert {used.digest, left.digest} <= before
    await own_cloud.end_api()
    await own_cloud.start_api()
    await until(lambda: files(own_cloud) == before - {left.digest, never_registered})
    await own_cloud.until_ready()
    assert {needed.digest, used.digest, fresh} <= files(own_cloud)
