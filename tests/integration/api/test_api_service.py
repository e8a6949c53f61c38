"""The front desk as its users see it: every RPC by the real wire, with a conductor in memory
behind.
"""

import asyncio
import contextlib
from typing import Any

import grpc
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

from tests.integration.api.cloud import ApiCloud, User, new_id, refusal
from tests.integration.api.uploads import RAW, imported


async def flavor(cloud: ApiCloud) -> flavor_pb2.Flavor:
    request = flavor_pb2.CreateFlavorRequest(
        request_id=new_id(), name=f"f-{new_id()}", vcpus=1, memory_mib=128, disk_gib=1
    )
    answer = await cloud.admin().CreateFlavor(request)
    assert answer.operation.state == operation_pb2.OPERATION_STATE_DONE
    return answer.flavor


async def created(cloud: ApiCloud, user: User, **changed: Any) -> Any:
    size, image = await flavor(cloud), await imported(user)
    request = instance_pb2.CreateInstanceRequest(
        **{
            "request_id": new_id(),
            "name": f"i-{new_id()}",
            "flavor_id": size.id,
            "image_id": image.id,
            **changed,
        }
    )
    return await user.CreateInstance(request)


async def test_an_instance_is_created_shown_listed_and_deleted(cloud: ApiCloud) -> None:
    user = cloud.user("one", "member")
    answer = await created(cloud, user, labels={"a": "b"})
    instance = answer.instance
    assert instance.state == instance_pb2.INSTANCE_STATE_REQUESTED
    assert (instance.version, instance.project_id, instance.labels) == (1, "one", {"a": "b"})
    assert instance.revision > 0
    assert instance.etag
    assert list(instance.allowed_actions) == [
        instance_pb2.INSTANCE_ACTION_DELETE,
        instance_pb2.INSTANCE_ACTION_UPDATE,
    ]
    assert [(blocked.action, blocked.reason) for blocked in instance.blocked_actions] == [
        (instance_pb2.INSTANCE_ACTION_START, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_STOP, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_REBOOT, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_PAUSE, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_UNPAUSE, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_SUSPEND, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_RESUME, "OPERATION_UNDER_WAY"),
        (instance_pb2.INSTANCE_ACTION_HARD_REBOOT, "OPERATION_UNDER_WAY"),
    ]
    assert answer.operation.resource_id == instance.id
    shown = await user.GetInstance(instance_pb2.GetInstanceRequest(id=instance.id))
    assert shown.instance == instance
    listed = await user.ListInstances(instance_pb2.ListInstancesRequest())
    assert list(listed.instances) == [instance]
    gone = await user.DeleteInstance(
        instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=instance.id)
    )
    assert gone.instance.task == instance_pb2.INSTANCE_TASK_DELETING
    assert gone.instance.etag != instance.etag
    assert list(gone.instance.allowed_actions) == [instance_pb2.INSTANCE_ACTION_DELETE]
    await cloud.conductor.change_instance(instance.id, state=instance_pb2.INSTANCE_STATE_DELETED)
    refused = await refusal(user.GetInstance(instance_pb2.GetInstanceRequest(id=instance.id)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND")


async def test_the_same_request_id_gives_the_same_instance_and_another_payload_is_refused(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("again", "member")
    size, image = await flavor(cloud), await imported(user)
    request = instance_pb2.CreateInstanceRequest(
        request_id=new_id(), name="same", flavor_id=size.id, image_id=image.id
    )
    first, second = await user.CreateInstance(request), await user.CreateInstance(request)
    assert first == second
    request.name = "other"
    refused = await refusal(user.CreateInstance(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )
    assert refused.fields == ["request_id"]


async def test_what_is_of_another_project_is_not_there(cloud: ApiCloud) -> None:
    owner, other = cloud.user("owner", "member"), cloud.user("other", "admin")
    answer = await created(cloud, owner)
    missing = "00000000-0000-4000-8000-000000000000"
    for row_id in (answer.instance.id, missing):
        refused = await refusal(other.GetInstance(instance_pb2.GetInstanceRequest(id=row_id)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND")
        assert refused.message == f"there is no instance {row_id}"
        refused = await refusal(
            other.DeleteInstance(instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=row_id))
        )
        assert refused.reason == "INSTANCE_NOT_FOUND"
        refused = await refusal(
            other.GetConsoleOutput(instance_pb2.GetConsoleOutputRequest(id=row_id))
        )
        assert refused.reason == "INSTANCE_NOT_FOUND"
    for operation_id in (answer.operation.id, missing):
        for call in (
            other.GetOperation(operation_pb2.GetOperationRequest(id=operation_id)),
            other.WaitOperation(operation_pb2.WaitOperationRequest(id=operation_id)),
        ):
            assert (await refusal(call)).reason == "OPERATION_NOT_FOUND"
    refused = await refusal(other.GetImage(image_pb2.GetImageRequest(id=answer.instance.image_id)))
    assert refused.reason == "IMAGE_NOT_FOUND"
    assert not (await other.ListInstances(instance_pb2.ListInstancesRequest())).instances
    assert not (await other.ListOperations(operation_pb2.ListOperationsRequest())).operations
    assert not (
        await other.ListImages(image_pb2.ListImagesRequest(filter=f'digest = "{"0" * 64}"'))
    ).images


async def test_only_cloud_admins_reach_every_project_and_see_hosts_of_instances(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("tenant", "admin")
    answer = await created(cloud, user)
    await cloud.conductor.change_instance(answer.instance.id, host_id="host-1", epoch=7)
    seen = await user.GetInstance(instance_pb2.GetInstanceRequest(id=answer.instance.id))
    assert (seen.instance.host_id, seen.instance.epoch) == ("", 0)
    seen = await cloud.admin().GetInstance(instance_pb2.GetInstanceRequest(id=answer.instance.id))
    assert (seen.instance.host_id, seen.instance.epoch) == ("host-1", 7)
    for call in (
        user.ListInstances(instance_pb2.ListInstancesRequest(all_projects=True)),
        user.ListOperations(operation_pb2.ListOperationsRequest(all_projects=True)),
        user.WatchInstances(instance_pb2.WatchInstancesRequest(all_projects=True)),
        user.ListHosts(host_pb2.ListHostsRequest()),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_MISSING",
        )
    everything = await cloud.admin().ListInstances(
        instance_pb2.ListInstancesRequest(
            all_projects=True, filter=f'name = "{answer.instance.name}"'
        )
    )
    assert [instance.id for instance in everything.instances] == [answer.instance.id]


async def test_pages_hold_every_row_once_and_their_tokens_are_bound(cloud: ApiCloud) -> None:
    user = cloud.user("pages", "member")
    first = await created(cloud, user)
    made = {first.instance.id}
    for number in range(6):
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name=f"p{number}",
            flavor_id=first.instance.flavor_id,
            image_id=first.instance.image_id,
        )
        made.add((await user.CreateInstance(request)).instance.id)
    listed: list[str] = []
    request = instance_pb2.ListInstancesRequest(page_size=3)
    while True:
        page = await user.ListInstances(request)
        listed += [instance.id for instance in page.instances]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == sorted(made)
    token = (
        await user.ListInstances(instance_pb2.ListInstancesRequest(page_size=3))
    ).next_page_token
    for wrong in (
        instance_pb2.ListInstancesRequest(page_token=token, filter='name = "p1"'),
        instance_pb2.ListInstancesRequest(page_token=token[:-2] + "AA"),
        instance_pb2.ListInstancesRequest(page_token="not a token"),
    ):
        refused = await refusal(user.ListInstances(wrong))
        assert (refused.code, refused.reason, refused.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "PAGE_TOKEN_INVALID",
            ["page_token"],
        )


async def test_lists_are_filtered_by_the_fields_of_their_noun(cloud: ApiCloud) -> None:
    user = cloud.user("filters", "member")
    answer = await created(cloud, user, name='a "quoted" name')
    for text in (
        'name = "a \\"quoted\\" name"',
        'state = "REQUESTED"',
        f'state = "INSTANCE_STATE_REQUESTED" AND flavor_id = "{answer.instance.flavor_id}"',
    ):
        found = await user.ListInstances(instance_pb2.ListInstancesRequest(filter=text))
        assert [i.id for i in found.instances] == [answer.instance.id], text
    found = await user.ListInstances(instance_pb2.ListInstancesRequest(filter='state = "ERROR"'))
    assert not found.instances
    for text in ('host_id = "x"', 'state = "GONE"', "name", 'name = "a" OR name = "b"'):
        refused = await refusal(user.ListInstances(instance_pb2.ListInstancesRequest(filter=text)))
        assert (refused.reason, refused.fields) == ("FILTER_INVALID", ["filter"]), text


async def test_images_of_a_project_are_its_own_and_public_ones_are_everybodys(
    cloud: ApiCloud,
) -> None:
    user, other = cloud.user("images", "member"), cloud.user("other-images", "member")
    private = await imported(user)
    assert (private.size_bytes, private.min_disk_gib) == (len(RAW), 1)
    public = await imported(cloud.admin(), visibility=image_pb2.IMAGE_VISIBILITY_PUBLIC)
    seen = {image.id for image in (await other.ListImages(image_pb2.ListImagesRequest())).images}
    assert public.id in seen
    assert private.id not in seen
    refused = await refusal(
        other.DeleteImage(image_pb2.DeleteImageRequest(request_id=new_id(), id=public.id))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    await user.DeleteImage(image_pb2.DeleteImageRequest(request_id=new_id(), id=private.id))
    refused = await refusal(user.GetImage(image_pb2.GetImageRequest(id=private.id)))
    assert refused.reason == "IMAGE_NOT_FOUND"


async def test_wishes_that_come_at_once_travel_together(cloud: ApiCloud) -> None:
    user = cloud.user("together", "member")
    first = await created(cloud, user)
    cloud.conductor.rounds.clear()
    wishes = [
        instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name=f"t{number}",
            flavor_id=first.instance.flavor_id,
            image_id=first.instance.image_id,
        )
        for number in range(50)
    ]
    answers = await asyncio.gather(*(user.CreateInstance(wish) for wish in wishes))
    assert {answer.instance.name for answer in answers} == {wish.name for wish in wishes}
    assert len(cloud.conductor.rounds) < 50
    assert sum(cloud.conductor.rounds) == 50


async def test_a_conductor_that_is_away_is_told_at_once_with_a_time_to_try_again(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("away", "member")
    answer = await created(cloud, user)
    request = instance_pb2.GetInstanceRequest(id=answer.instance.id)
    await cloud.conductor.stop()
    try:
        refused = await refusal(user.GetInstance(request))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "PEER_UNREACHABLE",
        )
        assert refused.retry_s
    finally:
        await cloud.conductor.start(cloud.conductor_target)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert (await user.GetInstance(request)).instance == answer.instance
                return
