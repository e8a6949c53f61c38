"""Every mutation of the contract: what it answers, that it is done once however often it is sent,
and that one that only asks changes nothing.

The list of mutations is the contract's own, so that a new one cannot be forgotten.
"""

import asyncio
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pool
from stead.v1 import flavor_pb2, host_pb2, instance_pb2, operation_pb2, project_pb2, quota_pb2

from services.api.edges.instance_servicer import BATCH_BYTES_MAX
from services.api.edges.servers import SERVICES
from tests.fakes.conductor_rows import HOST
from tests.integration.api.cloud import ApiCloud, new_id, refusal
from tests.integration.api.uploads import imported
from tests.integration.api.wishes import MUTATIONS, Ground, instance, wish_of

AT_ONCE = 20


@pytest_asyncio.fixture
async def ground(cloud: ApiCloud) -> Ground:
    return await ground_of(cloud)


async def ground_of(cloud: ApiCloud) -> Ground:
    project, conductor = f"m-{new_id()[:13]}", cloud.conductor
    user, admin = cloud.user(project, "member"), cloud.admin()
    size = flavor_pb2.CreateFlavorRequest(
        request_id=new_id(), name=f"f-{new_id()[:13]}", vcpus=1, memory_mib=64, disk_gib=1
    )
    flavor = (await admin.CreateFlavor(size)).flavor
    host = host_pb2.Host(id=f"h-{new_id()[:13]}", enabled=True)
    await conductor.commit(HOST, host)

    async def active(instance_id: str) -> None:
        await conductor.change_instance(
            instance_id,
            state=instance_pb2.INSTANCE_STATE_ACTIVE,
            task=instance_pb2.INSTANCE_TASK_NONE,
        )

    async def turned(instance_id: str, method: str) -> None:
        state = {
            "StopInstance": instance_pb2.INSTANCE_STATE_STOPPED,
            "PauseInstance": instance_pb2.INSTANCE_STATE_PAUSED,
            "SuspendInstance": instance_pb2.INSTANCE_STATE_SUSPENDED,
        }[method]
        task = instance_pb2.INSTANCE_TASK_NONE
        await conductor.change_instance(instance_id, state=state, task=task)

    image = await imported(user)
    return Ground(user, admin, flavor.id, image.id, host.id, active, turned)


def operations_of(answer: Any) -> list[str]:
    if isinstance(answer, instance_pb2.BatchCreateInstancesResponse):
        return [result.created.operation.id for result in answer.results]
    return [answer.operation.id]


def test_what_has_a_request_id_is_a_mutation_and_can_be_tried() -> None:
    for service in SERVICES:
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            names = set(method.input_type.fields_by_name)
            described = method.input_type.fields_by_name.get("description")
            if described is not None and described.message_type is not None:
                names |= set(described.message_type.fields_by_name)
            assert ({"request_id", "validate_only"} <= names) == (method.name in MUTATIONS), method
            assert ("request_id" in names) == ("validate_only" in names), method


@pytest.mark.parametrize("method", MUTATIONS)
async def test_a_mutation_that_only_asks_changes_nothing(
    cloud: ApiCloud, ground: Ground, method: str
) -> None:
    wish = await wish_of(method, ground)
    before, files = list(cloud.conductor.log), sorted(cloud.images.rglob("*"))
    tried = await wish.send(validate_only=True)
    assert cloud.conductor.log == before
    assert sorted(cloud.images.rglob("*")) == files
    if isinstance(tried, instance_pb2.BatchCreateInstancesResponse):
        assert all(not r.created.HasField("operation") for r in tried.results)
        assert all(not r.created.instance.id for r in tried.results)
        assert [r.created.instance.name for r in tried.results] == [
            new.name for new in wish.request.instances
        ]
    elif method != "CancelOperation":
        assert not tried.HasField("operation")
    done = await wish.send()
    assert all(operations_of(done))
    assert len(cloud.conductor.log) > len(before)


@pytest.mark.parametrize("method", MUTATIONS)
async def test_a_mutation_that_is_sent_twice_is_done_once(
    cloud: ApiCloud, ground: Ground, method: str
) -> None:
    wish = await wish_of(method, ground)
    first = await wish.send()
    revision = len(cloud.conductor.log)
    second = await wish.send()
    assert second == first
    assert len(cloud.conductor.log) == revision


@pytest.mark.parametrize("method", MUTATIONS)
async def test_a_mutation_that_is_sent_many_times_at_once_is_done_once(
    cloud: ApiCloud, ground: Ground, method: str
) -> None:
    wish = await wish_of(method, ground)
    answers = await asyncio.gather(*(wish.send() for _ in range(AT_ONCE)))
    assert len({tuple(operations_of(answer)) for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)


async def test_a_refusal_of_what_only_asks_is_that_of_the_real_call(ground: Ground) -> None:
    wish = await wish_of("CreateInstance", ground)
    await wish.send()
    wish.request.request_id = new_id()
    tried = await refusal(wish.send(validate_only=True))
    assert (tried.code, tried.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert (await refusal(wish.send())).reason == tried.reason


async def test_a_state_that_does_not_allow_it_is_told_with_the_instance(ground: Ground) -> None:
    created = await instance(ground)
    start = instance_pb2.StartInstanceRequest(request_id=new_id(), id=created.instance.id)
    refused = await refusal(ground.user.StartInstance(start))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "OPERATION_UNDER_WAY",
    )
    assert refused.metadata["state"] == "REQUESTED"
    assert refused.metadata["action"] == "START"
    assert refused.preconditions == [("OPERATION_UNDER_WAY", created.instance.id)]
    await ground.active(created.instance.id)
    refused = await refusal(ground.user.StartInstance(start))
    assert refused.reason == "INVALID_INSTANCE_STATE"
    shown = await ground.user.GetInstance(instance_pb2.GetInstanceRequest(id=created.instance.id))
    blocked = {b.action: (b.reason, b.message) for b in shown.instance.blocked_actions}
    assert blocked[instance_pb2.INSTANCE_ACTION_START] == (
        "INVALID_INSTANCE_STATE",
        refused.message,
    )
    assert set(blocked) == {
        instance_pb2.INSTANCE_ACTION_START,
        instance_pb2.INSTANCE_ACTION_UNPAUSE,
        instance_pb2.INSTANCE_ACTION_RESUME,
    }


async def test_what_a_quota_does_not_admit_is_told_by_resource(
    cloud: ApiCloud, ground: Ground
) -> None:
    project = (await instance(ground)).instance.project_id
    change = quota_pb2.UpdateQuotaRequest(request_id=new_id(), project_id=project)
    change.limits.instances = 1
    change.update_mask.paths.append("instances")
    changed = (await ground.admin.UpdateQuota(change)).quota
    assert (changed.limits.instances, changed.limits.vcpus) == (1, -1)
    refused = await refusal(instance(ground))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTA_EXCEEDED",
    )
    assert refused.quota == {"instances": "the limit is 1"}
    assert refused.metadata["instances_limit"] == "1"
    quota = (await ground.user.GetQuota(quota_pb2.GetQuotaRequest())).quota
    assert (quota.project_id, quota.used.instances, quota.etag) == (project, 1, changed.etag)


async def test_each_wish_of_a_batch_has_its_own_result(ground: Ground) -> None:
    wish = await wish_of("BatchCreateInstances", ground)
    wish.request.instances[1].flavor_id = new_id()
    wish.request.instances[2].name = wish.request.instances[0].name
    results = (await wish.send()).results
    assert [result.WhichOneof("result") for result in results] == ["created", "error", "error"]
    assert results[0].created.instance.name == wish.request.instances[0].name
    assert [(r.error.code, r.error.reason) for r in results[1:]] == [
        (grpc.StatusCode.INVALID_ARGUMENT.value[0], "FLAVOR_NOT_FOUND"),
        (grpc.StatusCode.ALREADY_EXISTS.value[0], "NAME_TAKEN"),
    ]


async def test_a_batch_of_a_thousand_is_answered_in_order(own_cloud: ApiCloud) -> None:
    ground = await ground_of(own_cloud)
    wish = await wish_of("BatchCreateInstances", ground)
    model = wish.request.instances[0]
    del wish.request.instances[:]
    for number in range(1000):
        new = wish.request.instances.add()
        new.CopyFrom(model)
        new.name = f"{model.name}-{number}"
    asked = instance_pb2.BatchCreateInstancesRequest()
    asked.CopyFrom(wish.request)
    asked.instances.add().CopyFrom(model)
    refused = await refusal(ground.user.BatchCreateInstances(asked))
    assert (refused.reason, refused.fields) == ("INVALID_FIELD", ["instances"])
    results = (await wish.send()).results
    assert [r.created.instance.name for r in results] == [n.name for n in wish.request.instances]
    assert {r.created.operation.request_id for r in results} == {wish.request.request_id}


async def test_a_batch_under_a_used_request_id_is_refused_whole(ground: Ground) -> None:
    wish = await wish_of("BatchCreateInstances", ground)
    await wish.send()
    wish.request.instances[2].name = "another"
    refused = await refusal(wish.send())
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )


async def test_a_batch_that_nobody_takes_is_refused_whole(own_cloud: ApiCloud) -> None:
    user = own_cloud.user("nobody", "member")
    request = instance_pb2.BatchCreateInstancesRequest(request_id=new_id())
    for number in range(2):
        request.instances.add(name=f"n{number}", flavor_id=new_id(), image_id=new_id())
    await own_cloud.conductor.stop()
    refused = await refusal(user.BatchCreateInstances(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "PEER_UNREACHABLE")
    assert refused.retry_s


async def test_a_creation_can_be_called_off_until_a_host_is_found(
    cloud: ApiCloud, ground: Ground
) -> None:
    created = await instance(ground)
    assert created.operation.cancellable
    cancel = operation_pb2.CancelOperationRequest(request_id=new_id(), id=created.operation.id)
    stranger = cloud.user("strangers", "member")
    assert (await refusal(stranger.CancelOperation(cancel))).reason == "OPERATION_NOT_FOUND"
    operation = (await ground.user.CancelOperation(cancel)).operation
    assert operation.state == operation_pb2.OPERATION_STATE_CANCELLED
    assert operation.error.reason == "CANCELLED_BY_CALLER"
    assert not operation.cancellable
    cancel.request_id = new_id()
    refused = await refusal(ground.user.CancelOperation(cancel))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "OPERATION_NOT_CANCELLABLE",
    )
    assert refused.preconditions == [("OPERATION_NOT_CANCELLABLE", created.operation.id)]


async def test_an_etag_of_an_older_version_is_refused(ground: Ground) -> None:
    created = (await instance(ground)).instance
    await ground.active(created.id)
    change = instance_pb2.UpdateInstanceRequest(
        request_id=new_id(), id=created.id, name="x", etag=created.etag
    )
    change.update_mask.paths.append("name")
    refused = await refusal(ground.user.UpdateInstance(change))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    shown = await ground.user.GetInstance(instance_pb2.GetInstanceRequest(id=created.id))
    change.etag = shown.instance.etag
    changed = (await ground.user.UpdateInstance(change)).instance
    assert (changed.name, changed.version) == ("x", shown.instance.version + 1)
    assert changed.etag != change.etag


async def test_a_project_is_shown_to_its_own_and_to_cloud_admins(
    cloud: ApiCloud, ground: Ground
) -> None:
    known = (await (await wish_of("CreateProject", ground)).send()).project
    get = project_pb2.GetProjectRequest(id=known.id)
    assert (await ground.admin.GetProject(get)).project == known
    assert (await cloud.user(known.id, "reader").GetProject(get)).project == known
    assert (await refusal(ground.user.GetProject(get))).reason == "PROJECT_NOT_FOUND"
    own = (await ground.user.GetProject(project_pb2.GetProjectRequest())).project
    assert (own.version, own.etag) == (0, "")
    assert own.id.startswith("m-")
    get.id = own.id
    assert (await refusal(ground.admin.GetProject(get))).reason == "PROJECT_NOT_FOUND"
    quota = quota_pb2.GetQuotaRequest(project_id=known.id)
    assert (await refusal(ground.user.GetQuota(quota))).reason == "PROJECT_NOT_FOUND"
    assert (await ground.admin.GetQuota(quota)).quota.limits.instances == -1
    listed = await cloud.user(known.id, "reader").ListProjects(project_pb2.ListProjectsRequest())
    assert list(listed.projects) == [known]
    everyone = await ground.admin.ListProjects(project_pb2.ListProjectsRequest(page_size=1000))
    assert known in everyone.projects
    asked = project_pb2.ListProjectsRequest(filter=f'id IN ("{known.id}", "{own.id}")')
    asked.order_by = "id desc"
    both = await ground.admin.ListProjects(asked)
    assert known.id in [project.id for project in both.projects]
    asked.order_by = "display_name"
    assert (await refusal(ground.admin.ListProjects(asked))).reason == "ORDER_INVALID"
    asked.order_by, asked.filter = "", 'display_name = "x"'
    assert (await refusal(ground.admin.ListProjects(asked))).reason == "FILTER_INVALID"


async def test_the_answer_to_the_largest_batch_is_one_that_every_client_takes(
    own_cloud: ApiCloud,
) -> None:
    ground = await ground_of(own_cloud)
    wish = await wish_of("BatchCreateInstances", ground)
    model = wish.request.instances[0]
    for number in range(30):
        model.labels[f"label-{number}"] = "x" * 55
    del wish.request.instances[:]
    for number in range(1000):
        new = wish.request.instances.add()
        new.CopyFrom(model)
        new.name = f"{model.name}-{number}"
    refused = await refusal(ground.user.BatchCreateInstances(wish.request))
    assert (refused.reason, refused.fields) == ("INVALID_FIELD", ["instances"])
    while wish.request.ByteSize() > BATCH_BYTES_MAX:
        for new in wish.request.instances:
            del new.labels[max(new.labels)]
    answer = await wish.send()
    assert len(answer.results) == 1000
    assert answer.ByteSize() < 4 * 1024 * 1024
