"""api with the real conductor, scheduler, PostgreSQL and bus: only the host is played, over the
real door.

Goal: what api assumes of the conductor is so. Method: the whole life of an instance, and the bad
requests whose refusals come from the conductor.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from stead.internal.v1 import compute_pb2 as pb
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

from tests.integration.api.cloud import ApiCloud, new_id, refusal
from tests.integration.api.test_any_bytes import answered, methods
from tests.integration.api.test_blobs import fetched
from tests.integration.api.test_ingress import agent
from tests.integration.api.test_watch import watching
from tests.integration.api.uploads import RAW, description, imported, parts, qcow2
from tests.integration.api.whole import (
    WholeCloud,
    commanded,
    ended,
    flavor,
    hello,
    whole_cloud,
    wish,
)

DONE = operation_pb2.OPERATION_STATE_DONE
RUNNING = instance_pb2.INSTANCE_POWER_RUNNING


@pytest_asyncio.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeCloud]:
    async with whole_cloud(tmp_path_factory.mktemp("whole")) as running:
        yield running


async def test_an_instance_lives_its_whole_life_and_its_watcher_sees_every_version(
    whole: ApiCloud,
) -> None:
    user = whole.user("life", "member")
    asked = await wish(whole, user)
    async with (
        commanded(whole, "h-life") as wanted,
        watching(user) as watcher,
        agent(whole, "h-life") as host,
    ):
        await watcher.snapshot()
        assert (await host.say(hello=hello("h-life"))).view.incarnation == 1
        answer = await user.CreateInstance(asked)
        named = instance_pb2.GetInstanceRequest(id=answer.instance.id)
        command = await asyncio.wait_for(wanted.get(), 60)
        assert (command.instance_id, command.spec.present) == (named.id, True)
        assert await fetched(whole, "h-life", command.spec.image.digest) == RAW
        unclaimed = (await imported(user, qcow2(), kind=image_pb2.IMAGE_KIND_QCOW2)).digest
        assert await fetched(whole, "h-life", unclaimed) == "BLOB_NOT_FOUND"
        seen = {"applied_generation": command.generation, "power": RUNNING}
        told = await host.observe(named.id, command.epoch, **seen)
        (result,) = told.acknowledgements.results
        assert result.outcome == pb.OBSERVATION_OUTCOME_APPLIED
        assert await ended(user, answer.operation) == DONE
        shown = (await user.GetInstance(named)).instance
        assert (shown.state, shown.host_id) == (instance_pb2.INSTANCE_STATE_ACTIVE, "")
        active = instance_pb2.ListInstancesRequest(filter='state = "ACTIVE"')
        assert [i.id for i in (await user.ListInstances(active)).instances] == [named.id]
        gone = await user.DeleteInstance(
            instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=named.id)
        )
        while (command := await asyncio.wait_for(wanted.get(), 60)).spec.present:
            pass
        await host.observe(named.id, command.epoch, absent=True)
        assert await ended(user, gone.operation) == DONE
        while (await watcher.next()).state != instance_pb2.INSTANCE_STATE_DELETED:
            pass
        assert watcher.changes[0].version == 1
        assert await fetched(whole, "h-life", command.spec.image.digest) == "BLOB_NOT_FOUND"
        shown_host = (await whole.admin().GetHost(host_pb2.GetHostRequest(id="h-life"))).host
        assert (shown_host.target.vcpus, shown_host.claims) == (32, 0)
    assert (await refusal(user.GetInstance(named))).reason == "INSTANCE_NOT_FOUND"


@pytest.mark.parametrize(
    ("changed", "code", "reason", "field"),
    [
        ({"flavor_id": new_id()}, "INVALID_ARGUMENT", "FLAVOR_NOT_FOUND", "flavor_id"),
        ({"image_id": new_id()}, "INVALID_ARGUMENT", "IMAGE_NOT_FOUND", "image_id"),
        ({"name": "a\x07b"}, "INVALID_ARGUMENT", "INVALID_FIELD", "name"),
        ({"name": " a"}, "INVALID_ARGUMENT", "INVALID_FIELD", "name"),
    ],
)
async def test_a_wish_that_cannot_be_granted_changes_nothing(
    whole: ApiCloud, changed: dict[str, str], code: str, reason: str, field: str
) -> None:
    user = whole.user("refused", "member")
    request = await wish(whole, user, **changed)
    refused = await refusal(user.CreateInstance(request))
    assert (refused.code.name, refused.reason, refused.fields) == (code, reason, [field])
    assert not (await user.ListInstances(instance_pb2.ListInstancesRequest())).instances


async def test_an_image_too_large_for_the_flavor_is_refused(whole: ApiCloud) -> None:
    user = whole.user("large", "member")
    image = await imported(user, qcow2(5 << 30), kind=image_pb2.IMAGE_KIND_QCOW2)
    refused = await refusal(user.CreateInstance(await wish(whole, user, image_id=image.id)))
    assert (refused.code.name, refused.reason) == ("INVALID_ARGUMENT", "IMAGE_TOO_LARGE")


async def test_request_ids_and_names_are_kept(whole: ApiCloud) -> None:
    user = whole.user("kept", "member")
    request = await wish(whole, user, name="kept")
    first = await user.CreateInstance(request)
    again = await user.CreateInstance(request)
    assert (again.instance.id, again.operation.id) == (first.instance.id, first.operation.id)
    request.name = "other"
    refused = await refusal(user.CreateInstance(request))
    assert (refused.reason, refused.code.name) == ("REQUEST_ID_REUSED", "INVALID_ARGUMENT")
    request.name, request.request_id = "kept", new_id()
    refused = await refusal(user.CreateInstance(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    described = description(RAW, name="one")
    first_image = await user.ImportImage(parts(described, RAW))
    assert (await user.ImportImage(parts(described, RAW))).image == first_image.image
    refused = await refusal(user.ImportImage(parts(description(RAW, name="one"), RAW)))
    assert refused.reason == "NAME_TAKEN"
    assert (whole.images / first_image.image.digest).exists()


async def test_projects_do_not_see_each_other(whole: ApiCloud) -> None:
    owner, other = whole.user("mine", "member"), whole.user("theirs", "admin")
    answer = await owner.CreateInstance(await wish(whole, owner))
    image = answer.instance.image_id
    for row_id in (answer.instance.id, new_id()):
        refused = await refusal(other.GetInstance(instance_pb2.GetInstanceRequest(id=row_id)))
        assert refused.message == f"there is no instance {row_id}"
        refused = await refusal(
            other.DeleteInstance(instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=row_id))
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND")
    for row_id in (image, new_id()):
        refused = await refusal(other.GetImage(image_pb2.GetImageRequest(id=row_id)))
        assert refused.reason == "IMAGE_NOT_FOUND"
        refused = await refusal(
            other.DeleteImage(image_pb2.DeleteImageRequest(request_id=new_id(), id=row_id))
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "IMAGE_NOT_FOUND")
        request = await wish(whole, other, image_id=row_id)
        assert (await refusal(other.CreateInstance(request))).reason == "IMAGE_NOT_FOUND"
    assert not (await other.ListInstances(instance_pb2.ListInstancesRequest())).instances
    assert not (await other.ListOperations(operation_pb2.ListOperationsRequest())).operations
    refused = await refusal(
        other.GetOperation(operation_pb2.GetOperationRequest(id=answer.operation.id))
    )
    assert refused.reason == "OPERATION_NOT_FOUND"
    everything = await whole.admin().ListInstances(
        instance_pb2.ListInstancesRequest(all_projects=True, page_size=1000)
    )
    assert answer.instance.id in {i.id for i in everything.instances}
    seen = await whole.admin().GetInstance(instance_pb2.GetInstanceRequest(id=answer.instance.id))
    assert seen.instance.project_id == "mine"


async def test_lists_and_pages_agree_with_the_conductor(whole: ApiCloud) -> None:
    user = whole.user("lists", "member")
    sizes = [await flavor(whole) for _ in range(3)]
    found = await user.ListFlavors(
        flavor_pb2.ListFlavorsRequest(filter=f'name = "{sizes[1].name}"')
    )
    assert [f.id for f in found.flavors] == [sizes[1].id]
    public = await imported(
        whole.admin(), os.urandom(1000), visibility=image_pb2.IMAGE_VISIBILITY_PUBLIC
    )
    own = await imported(user)
    seen = [i.id for i in (await user.ListImages(image_pb2.ListImagesRequest())).images]
    assert {public.id, own.id} <= set(seen)
    found = await user.ListImages(image_pb2.ListImagesRequest(filter=f'digest = "{public.digest}"'))
    assert [i.id for i in found.images] == [public.id]
    made = []
    for _ in range(5):
        request = await wish(whole, user, flavor_id=sizes[0].id, image_id=public.id)
        made.append((await user.CreateInstance(request)).instance.id)
    of_image = instance_pb2.ListInstancesRequest(filter=f'image_id = "{public.id}"')
    assert [i.id for i in (await user.ListInstances(of_image)).instances] == made
    listed: list[str] = []
    page = instance_pb2.ListInstancesRequest(page_size=2)
    while True:
        answer = await user.ListInstances(page)
        listed += [i.id for i in answer.instances]
        if not answer.next_page_token:
            break
        page.page_token = answer.next_page_token
    assert listed == made
    refused = await refusal(
        user.DeleteFlavor(flavor_pb2.DeleteFlavorRequest(request_id=new_id(), id=sizes[0].id))
    )
    assert refused.reason == "ROLE_MISSING"
    await whole.admin().DeleteFlavor(
        flavor_pb2.DeleteFlavorRequest(request_id=new_id(), id=sizes[2].id)
    )
    refused = await refusal(user.GetFlavor(flavor_pb2.GetFlavorRequest(id=sizes[2].id)))
    assert refused.reason == "FLAVOR_NOT_FOUND"
    operations = await user.ListOperations(
        operation_pb2.ListOperationsRequest(filter=f'resource_id = "{made[0]}"')
    )
    assert [o.resource_id for o in operations.operations] == [made[0]]


@pytest.mark.parametrize("method", list(methods()), ids=lambda m: m.name)
async def test_any_request_is_answered_with_a_reason(
    whole: ApiCloud, method: MethodDescriptor
) -> None:
    await answered(whole, method, 40)
