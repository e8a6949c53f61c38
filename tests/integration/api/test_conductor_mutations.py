"""Every mutation with the real conductor: done once however often it is sent, nothing when it only
asks, and the life of an instance that is stopped, started and booted anew.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import duration_pb2
from stead.v1 import (
    host_pb2,
    instance_pb2,
    key_pair_pb2,
    operation_pb2,
    project_pb2,
    quota_pb2,
)

from tests.integration.api.cloud import new_id, refusal
from tests.integration.api.test_mutations import operations_of
from tests.integration.api.uploads import imported
from tests.integration.api.whole import WholeCloud, ended, flavor, obedient, whole_cloud
from tests.integration.api.wishes import MUTATIONS, Ground, instance, wish_of

AT_ONCE = 20
DONE = operation_pb2.OPERATION_STATE_DONE
# Only an operation that still waits for a host can be called off.
UNPLACED = ("CancelOperation",)


@pytest_asyncio.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeCloud]:
    async with (
        whole_cloud(tmp_path_factory.mktemp("mutations")) as running,
        obedient(running, "h-main"),
        obedient(running, "h-spare"),
    ):
        yield running


@pytest_asyncio.fixture
async def ground(whole: WholeCloud) -> Ground:
    user = whole.user(f"m-{new_id()[:13]}", "member")

    async def active(instance_id: str) -> None:
        async with asyncio.timeout(60):
            request = instance_pb2.WatchInstancesRequest(filter=f'id = "{instance_id}"')
            async for event in user.WatchInstances(request):
                seen = event.existing if event.HasField("existing") else event.change.instance
                if seen.state == instance_pb2.INSTANCE_STATE_ACTIVE:
                    return

    async def turned(instance_id: str, method: str) -> None:
        await active(instance_id)
        request = getattr(instance_pb2, f"{method}Request")(request_id=new_id(), id=instance_id)
        assert await ended(user, (await getattr(user, method)(request)).operation) == DONE

    image = await imported(user)
    size = await flavor(whole)
    return Ground(user, whole.admin(), size.id, image.id, "h-spare", active, turned, whole.sql)


@asynccontextmanager
async def unplaced(whole: WholeCloud, method: str) -> AsyncIterator[None]:
    """Nothing is placed meanwhile, if this method needs it so."""
    if method in UNPLACED:
        whole.scheduler_process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        whole.scheduler_process.send_signal(signal.SIGCONT)


async def operations_with(ground: Ground, request_id: str) -> list[str]:
    request = operation_pb2.ListOperationsRequest(
        filter=f'request_id = "{request_id}"', all_projects=True, page_size=1000
    )
    return [o.id for o in (await ground.admin.ListOperations(request)).operations]


@pytest.mark.parametrize("method", MUTATIONS)
async def test_a_mutation_that_only_asks_leaves_no_operation(
    whole: WholeCloud, ground: Ground, method: str
) -> None:
    async with unplaced(whole, method):
        wish = await wish_of(method, ground)
        tried = await wish.send(validate_only=True)
        assert await operations_with(ground, wish.request.request_id) == []
        if method == "BatchCreateInstances":
            assert all(not r.created.HasField("operation") for r in tried.results)
            assert all(not r.created.instance.id for r in tried.results)
        elif method != "CancelOperation":
            assert not tried.HasField("operation")
        done = await wish.send()
        made = [] if method == "CancelOperation" else operations_of(done)
        assert await operations_with(ground, wish.request.request_id) == sorted(made)


@pytest.mark.parametrize("method", MUTATIONS)
async def test_a_mutation_that_is_sent_again_and_at_once_is_done_once(
    whole: WholeCloud, ground: Ground, method: str
) -> None:
    async with unplaced(whole, method):
        wish = await wish_of(method, ground)
        answers = await asyncio.gather(*(wish.send() for _ in range(AT_ONCE)))
        answers.append(await wish.send())
        assert len({tuple(operations_of(answer)) for answer in answers}) == 1
        if method != "CancelOperation":
            made = await operations_with(ground, wish.request.request_id)
            assert made == sorted(operations_of(answers[0]))


async def test_an_instance_is_stopped_started_and_booted_anew(ground: Ground) -> None:
    created = (await instance(ground)).instance
    await ground.active(created.id)

    async def acted(method: str, request: Any) -> Any:
        operation = (await getattr(ground.user, method)(request)).operation
        assert await ended(ground.user, operation) == DONE
        shown = await ground.user.GetInstance(instance_pb2.GetInstanceRequest(id=created.id))
        assert shown.instance.task == instance_pb2.INSTANCE_TASK_NONE
        return shown.instance

    timeout = duration_pb2.Duration(seconds=5)
    stopped = await acted(
        "StopInstance",
        instance_pb2.StopInstanceRequest(request_id=new_id(), id=created.id, timeout=timeout),
    )
    assert stopped.state == instance_pb2.INSTANCE_STATE_STOPPED
    assert list(stopped.allowed_actions) == [
        instance_pb2.INSTANCE_ACTION_DELETE,
        instance_pb2.INSTANCE_ACTION_UPDATE,
        instance_pb2.INSTANCE_ACTION_START,
        instance_pb2.INSTANCE_ACTION_HARD_REBOOT,
    ]
    reboot = instance_pb2.RebootInstanceRequest(request_id=new_id(), id=created.id)
    refused = await refusal(ground.user.RebootInstance(reboot))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INVALID_INSTANCE_STATE",
    )
    assert refused.preconditions == [("INVALID_INSTANCE_STATE", created.id)]
    started = await acted(
        "StartInstance", instance_pb2.StartInstanceRequest(request_id=new_id(), id=created.id)
    )
    assert started.state == instance_pb2.INSTANCE_STATE_ACTIVE
    for kind in (instance_pb2.REBOOT_KIND_SOFT, instance_pb2.REBOOT_KIND_HARD):
        booted = await acted(
            "RebootInstance",
            instance_pb2.RebootInstanceRequest(request_id=new_id(), id=created.id, kind=kind),
        )
        assert booted.state == instance_pb2.INSTANCE_STATE_ACTIVE
        assert booted.generation > started.generation
    for method, state in (
        ("PauseInstance", instance_pb2.INSTANCE_STATE_PAUSED),
        ("UnpauseInstance", instance_pb2.INSTANCE_STATE_ACTIVE),
        ("SuspendInstance", instance_pb2.INSTANCE_STATE_SUSPENDED),
        ("ResumeInstance", instance_pb2.INSTANCE_STATE_ACTIVE),
    ):
        request = getattr(instance_pb2, f"{method}Request")(request_id=new_id(), id=created.id)
        assert (await acted(method, request)).state == state


async def test_names_and_labels_are_changed_by_mask_and_etag(ground: Ground) -> None:
    created = (await instance(ground)).instance
    await ground.active(created.id)
    change = instance_pb2.UpdateInstanceRequest(
        request_id=new_id(), id=created.id, name="left alone", labels={"a": "b"}, etag=created.etag
    )
    change.update_mask.paths.append("labels")
    refused = await refusal(ground.user.UpdateInstance(change))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    shown = await ground.user.GetInstance(instance_pb2.GetInstanceRequest(id=created.id))
    change.etag = shown.instance.etag
    changed = (await ground.user.UpdateInstance(change)).instance
    assert (changed.name, dict(changed.labels)) == (created.name, {"a": "b"})
    change.request_id, change.etag = new_id(), ""
    change.update_mask.paths[:] = ["state"]
    refused = await refusal(ground.user.UpdateInstance(change))
    assert (refused.reason, refused.fields) == ("INVALID_FIELD", ["update_mask"])


async def test_a_batch_of_a_thousand_is_accepted_item_by_item(
    whole: WholeCloud, ground: Ground
) -> None:
    wish = await wish_of("BatchCreateInstances", ground)
    model = wish.request.instances[0]
    del wish.request.instances[:]
    for number in range(1000):
        new = wish.request.instances.add()
        new.CopyFrom(model)
        new.name = f"{model.name}-{number // 2}"
    results = (await wish.send()).results
    assert [r.WhichOneof("result") for r in results] == ["created", "error"] * 500
    assert {r.error.reason for r in results[1::2]} == {"NAME_TAKEN"}
    again = (await wish.send()).results
    assert [r.created.operation.id for r in again] == [r.created.operation.id for r in results]
    wish.request.instances[7].name = "another"
    assert (await refusal(wish.send())).reason == "REQUEST_ID_REUSED"


async def known_project(whole: WholeCloud) -> str:
    word = f"p-{new_id()[:13]}"
    create = project_pb2.CreateProjectRequest(request_id=new_id(), id=word, display_name="One")
    made = (await whole.admin().CreateProject(create)).project
    create.request_id = new_id()
    assert (await refusal(whole.admin().CreateProject(create))).reason == "NAME_TAKEN"
    shown = await whole.user(word, "reader").GetProject(project_pb2.GetProjectRequest())
    assert shown.project == made
    return word


async def test_a_project_has_its_limits(whole: WholeCloud, ground: Ground) -> None:
    word = await known_project(whole)
    member = whole.user(word, "member")
    change = quota_pb2.UpdateQuotaRequest(request_id=new_id(), project_id=word)
    change.limits.instances, change.limits.vcpus = 1, 100
    change.update_mask.paths.append("instances")
    await ground.admin.UpdateQuota(change)
    own = replace(ground, user=member, image_id=(await imported(member)).id)
    await instance(own)
    refused = await refusal(instance(own))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTA_EXCEEDED",
    )
    assert list(refused.quota) == ["instances"]
    quota = (await member.GetQuota(quota_pb2.GetQuotaRequest())).quota
    assert (quota.limits.instances, quota.limits.vcpus, quota.used.instances) == (1, -1, 1)


async def test_a_project_ends_when_it_has_no_instances(whole: WholeCloud, ground: Ground) -> None:
    word = await known_project(whole)
    member, admin = whole.user(word, "member"), ground.admin
    own = replace(ground, user=member, image_id=(await imported(member)).id)
    kept = (await instance(own)).instance
    delete = project_pb2.DeleteProjectRequest(request_id=new_id(), id=word)
    refused = await refusal(admin.DeleteProject(delete))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PROJECT_NOT_EMPTY",
    )
    assert refused.preconditions == [("PROJECT_NOT_EMPTY", word)]
    gone = await member.DeleteInstance(
        instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=kept.id)
    )
    assert await ended(member, gone.operation) == DONE
    await admin.DeleteProject(delete)
    get = project_pb2.GetProjectRequest(id=word)
    assert (await refusal(admin.GetProject(get))).reason == "PROJECT_NOT_FOUND"


async def test_a_key_pair_is_kept_for_new_instances(ground: Ground) -> None:
    made = (await (await wish_of("CreateKeyPair", ground)).send()).key_pair
    assert made.algorithm == "ssh-ed25519"
    assert made.fingerprint.startswith("SHA256:")
    listed = await ground.user.ListKeyPairs(key_pair_pb2.ListKeyPairsRequest())
    assert list(listed.key_pairs) == [made]
    wish = await wish_of("CreateInstance", ground)
    wish.request.key_pair_ids.append(new_id())
    refused = await refusal(wish.send())
    assert (refused.reason, refused.fields) == ("KEY_PAIR_NOT_FOUND", ["key_pair_ids"])
    wish.request.key_pair_ids[:] = [made.id]
    await wish.send()
    bad = key_pair_pb2.CreateKeyPairRequest(
        request_id=new_id(), name="bad", public_key="ssh-rsa AAAA"
    )
    refused = await refusal(ground.user.CreateKeyPair(bad))
    assert (refused.reason, refused.fields) == ("PUBLIC_KEY_INVALID", ["public_key"])
    delete = key_pair_pb2.DeleteKeyPairRequest(request_id=new_id(), id=made.id)
    assert (await ground.user.DeleteKeyPair(delete)).key_pair.name == made.name
    get = key_pair_pb2.GetKeyPairRequest(id=made.id)
    assert (await refusal(ground.user.GetKeyPair(get))).reason == "KEY_PAIR_NOT_FOUND"


async def test_a_host_is_closed_with_a_reason_and_opened(ground: Ground) -> None:
    disable = host_pb2.DisableHostRequest(
        request_id=new_id(), id=ground.host_id, reason="a new disk"
    )
    host = (await ground.admin.DisableHost(disable)).host
    assert (host.enabled, host.disabled_reason) == (False, "a new disk")
    closed = host_pb2.ListHostsRequest(filter='enabled = "false"')
    assert [h.id for h in (await ground.admin.ListHosts(closed)).hosts] == [ground.host_id]
    enable = host_pb2.EnableHostRequest(request_id=new_id(), id=ground.host_id)
    host = (await ground.admin.EnableHost(enable)).host
    assert (host.enabled, host.disabled_reason) == (True, "")
    enable.id = "nowhere"
    assert (await refusal(ground.admin.EnableHost(enable))).reason == "REQUEST_ID_REUSED"
    enable.request_id = new_id()
    assert (await refusal(ground.admin.EnableHost(enable))).reason == "HOST_NOT_FOUND"
