"""Where a watch goes on: tokens of every end, of lists, and those that lead nowhere."""

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from stead.v1 import host_pb2, instance_pb2

from tests.fakes.conductor_rows import HOST
from tests.integration.api.cloud import ApiCloud, refusal
from tests.integration.api.test_api_service import created
from tests.integration.api.test_watch import read_all, watching


async def test_a_reader_that_is_too_slow_is_cut_off_and_goes_on_without_loss(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("slow", "member")
    instance_id = (await created(cloud, user)).instance.id
    async with watching(user) as slow, watching(user) as quick:
        await slow.snapshot()
        await quick.snapshot()
        for number in range(400):
            await cloud.conductor.change_instance(instance_id, fault=f"{number:060000}")
            assert (await quick.next()).fault.endswith(f"{number:04}")
        refused = await refusal(read_all(slow))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "WATCH_TOO_SLOW",
        )
        assert refused.metadata["resume_token"] == slow.token
        slow.stream = user.WatchInstances(
            instance_pb2.WatchInstancesRequest(resume_token=slow.token)
        )
        while slow.revision < quick.revision:
            await slow.next()
        slow.stream.cancel()
    assert [change.fault for change in slow.changes] == [f"{n:060000}" for n in range(400)]


async def test_a_watch_ends_when_its_token_does_and_says_where_to_go_on(cloud: ApiCloud) -> None:
    claims = cloud.signer.claims("short", "reader")
    user = cloud.user("short", "reader", exp=claims["iat"] + 3)
    async with watching(user) as watcher:
        await watcher.snapshot()
        refused = await refusal(read_all(watcher))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    async with watching(
        cloud.user("short", "reader"), resume_token=refused.metadata["resume_token"]
    ) as again:
        (await created(cloud, cloud.user("short", "member")))
        assert (await again.next()).version == 1


async def test_a_list_goes_on_as_a_watch_and_a_bookmark_tells_that_nothing_happened(
    cloud: ApiCloud,
) -> None:
    user = cloud.user("listed", "member")
    instance = (await created(cloud, user)).instance
    listed = await user.ListInstances(instance_pb2.ListInstancesRequest())
    assert listed.revision == len(cloud.conductor.log)
    await cloud.conductor.change_instance(instance.id, fault="later")
    asked = {"resume_token": listed.resume_token, "bookmark_interval": Duration(seconds=1)}
    async with watching(user, **asked) as watcher:
        assert (await watcher.next()).fault == "later"
        bookmark = await watcher.message()
        assert bookmark.WhichOneof("event") == "bookmark"
        assert bookmark.resume_token
    refused = await refusal(
        user.WatchInstances(
            instance_pb2.WatchInstancesRequest(
                resume_token=listed.resume_token, filter='name = "x"'
            )
        )
    )
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "RESUME_TOKEN_INVALID",
    )
    assert refused.fields == ["resume_token"]


async def test_a_token_older_than_what_is_kept_is_refused_with_the_oldest(
    own_cloud: ApiCloud,
) -> None:
    """The log is cut above the token, and the ring has turned over since."""
    user = own_cloud.user("old", "member")
    instance_id = (await created(own_cloud, user)).instance.id
    async with watching(user) as watcher:
        await watcher.snapshot()
    listed = await user.ListInstances(instance_pb2.ListInstancesRequest(page_size=1))
    await created(own_cloud, user)
    first_page = await user.ListInstances(instance_pb2.ListInstancesRequest(page_size=1))
    for number in range(60):
        await own_cloud.conductor.change_instance(instance_id, fault=f"{number:060000}")
    async with watching(user) as quick:
        # The replica has read all that is cut: else it would begin anew.
        await quick.snapshot()
        own_cloud.conductor.compacted = oldest = len(own_cloud.conductor.log) - 10
        await own_cloud.conductor.change_instance(instance_id, fault="last")
        await quick.next()
    for token in (watcher.token, listed.resume_token):
        refused = await refusal(
            user.WatchInstances(instance_pb2.WatchInstancesRequest(resume_token=token))
        )
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            "REVISION_COMPACTED",
        )
        assert refused.metadata == {"oldest_revision": str(oldest)}
    page = instance_pb2.ListInstancesRequest(page_size=1, page_token=first_page.next_page_token)
    refused = await refusal(user.ListInstances(page))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
    assert refused.metadata == {"oldest_revision": str(oldest)}


async def test_what_a_list_or_watch_cannot_do_is_refused_by_its_field(cloud: ApiCloud) -> None:
    user = cloud.user("asks", "reader")
    calls: list[tuple[str, str, Any]] = [
        ("FILTER_INVALID", "filter", instance_pb2.ListInstancesRequest(filter="name")),
        ("FILTER_INVALID", "filter", instance_pb2.ListInstancesRequest(filter='host_id = "h"')),
        ("ORDER_INVALID", "order_by", instance_pb2.ListInstancesRequest(order_by="state")),
        ("PAGE_TOKEN_INVALID", "page_token", instance_pb2.ListInstancesRequest(page_token="x")),
        ("FILTER_INVALID", "filter", instance_pb2.WatchInstancesRequest(filter="labels")),
        (
            "RESUME_TOKEN_INVALID",
            "resume_token",
            instance_pb2.WatchInstancesRequest(resume_token="x"),
        ),
    ]
    for reason, field, request in calls:
        is_list = isinstance(request, instance_pb2.ListInstancesRequest)
        call = user.ListInstances if is_list else user.WatchInstances
        refused = await refusal(call(request))
        assert (refused.code, refused.reason, refused.fields) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            reason,
            [field],
        )


async def test_a_watch_of_hosts_goes_on_from_its_token_until_that_is_too_old(
    own_cloud: ApiCloud,
) -> None:
    admin = own_cloud.admin()
    await own_cloud.conductor.commit(HOST, host_pb2.Host(id="t-1", enabled=True))
    stream = admin.WatchHosts(host_pb2.WatchHostsRequest())
    while (message := await stream.read()).WhichOneof("event") == "existing":
        pass
    assert message.WhichOneof("event") == "snapshot_done"
    stream.cancel()
    await own_cloud.conductor.commit(HOST, host_pb2.Host(id="t-1", enabled=False))
    resumed = host_pb2.WatchHostsRequest(
        resume_token=message.resume_token, bookmark_interval=Duration(seconds=1)
    )
    stream = admin.WatchHosts(resumed)
    change = (await stream.read()).change
    assert (change.id, change.enabled) == ("t-1", False)
    bookmark = await stream.read()
    assert bookmark.WhichOneof("event") == "bookmark"
    assert bookmark.resume_token
    stream.cancel()
    for number in range(60):
        host = host_pb2.Host(id="t-1", disabled_reason=f"{number:060000}")
        await own_cloud.conductor.commit(HOST, host)
    quick = admin.WatchHosts(host_pb2.WatchHostsRequest())
    while (await quick.read()).WhichOneof("event") == "existing":
        pass
    quick.cancel()
    own_cloud.conductor.compacted = oldest = len(own_cloud.conductor.log) - 10
    refused = await refusal(admin.WatchHosts(resumed))
    assert refused.reason == "REVISION_COMPACTED"
    assert refused.metadata == {"oldest_revision": str(oldest)}
