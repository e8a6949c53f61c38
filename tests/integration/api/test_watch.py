"""A watch misses nothing: a true snapshot, then every version of every instance, in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from stead.internal.v1 import conductor_pb2
from stead.v1 import instance_pb2

from tests.fakes.conductor_rows import INSTANCE
from tests.integration.api.cloud import ApiCloud, User, new_id, refusal
from tests.integration.api.test_api_service import created


class Watcher:
    """Reads one watch and checks as it reads that revisions never fall and versions have no gap."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.existing: dict[str, instance_pb2.Instance] = {}
        self.changes: list[instance_pb2.Instance] = []
        self.versions: dict[str, int] = {}
        self.revision = 0

    async def snapshot(self) -> "Watcher":
        while True:
            message = await asyncio.wait_for(self.stream.read(), 30)
            match message.WhichOneof("event"):
                case "existing":
                    self.existing[message.existing.id] = message.existing
                    self.versions[message.existing.id] = message.existing.version
                case "snapshot_done":
                    assert message.snapshot_done.count == len(self.existing)
                    self.revision = message.revision
                    return self

    async def next(self) -> instance_pb2.Instance:
        message = await asyncio.wait_for(self.stream.read(), 30)
        instance: instance_pb2.Instance = message.change.instance
        assert message.revision == instance.revision > self.revision
        assert instance.version == self.versions.get(instance.id, 0) + 1
        self.revision, self.versions[instance.id] = message.revision, instance.version
        self.changes.append(instance)
        return instance


async def read_all(watcher: Watcher) -> None:
    while True:
        await watcher.next()


@asynccontextmanager
async def watching(user: User, **asked: Any) -> AsyncIterator[Watcher]:
    stream = user.WatchInstances(instance_pb2.WatchInstancesRequest(**asked))
    try:
        yield Watcher(stream)
    finally:
        stream.cancel()


async def test_a_watch_shows_what_is_and_then_each_change(cloud: ApiCloud) -> None:
    user, other = cloud.user("watch", "member"), cloud.user("watch-other", "member")
    first = (await created(cloud, user)).instance
    async with watching(user) as watcher:
        await watcher.snapshot()
        assert list(watcher.existing.values()) == [first]
        await created(cloud, other)
        second = (await created(cloud, user)).instance
        assert await watcher.next() == second
        await cloud.conductor.change_instance(
            first.id, state=instance_pb2.INSTANCE_STATE_ACTIVE, host_id="h", epoch=3
        )
        changed = await watcher.next()
        assert (changed.id, changed.state) == (first.id, instance_pb2.INSTANCE_STATE_ACTIVE)
        assert (changed.host_id, changed.epoch) == ("", 0)
        await cloud.conductor.change_instance(first.id, state=instance_pb2.INSTANCE_STATE_DELETED)
        assert (await watcher.next()).state == instance_pb2.INSTANCE_STATE_DELETED


async def test_a_cloud_admin_sees_every_revision_of_instances(cloud: ApiCloud) -> None:
    admin = cloud.admin()
    async with watching(admin, all_projects=True) as watcher:
        await watcher.snapshot()
        for project in ("every-a", "every-b"):
            answer = await created(cloud, cloud.user(project, "member"))
            await cloud.conductor.change_instance(answer.instance.id, host_id="h-9", epoch=4)
        expected = [
            row.revision
            for row in cloud.conductor.log
            if row.kind == INSTANCE and row.revision > watcher.revision
        ]
        assert [(await watcher.next()).revision for _ in expected] == expected
        assert (watcher.changes[-1].host_id, watcher.changes[-1].epoch) == ("h-9", 4)


async def test_a_cloud_admin_sees_its_own_project_unless_it_asks_for_all(cloud: ApiCloud) -> None:
    admin = cloud.admin("own-project")
    own = (await created(cloud, admin)).instance.id
    other = (await created(cloud, cloud.user("not-own-project", "member"))).instance.id
    listed = await admin.ListInstances(instance_pb2.ListInstancesRequest())
    assert [instance.id for instance in listed.instances] == [own]
    everything = instance_pb2.ListInstancesRequest(all_projects=True, page_size=1000)
    listed = await admin.ListInstances(everything)
    assert {own, other} <= {instance.id for instance in listed.instances}
    async with watching(admin) as watcher:
        await watcher.snapshot()
        assert set(watcher.existing) == {own}


async def test_a_snapshot_is_true_to_one_revision_although_its_pages_are_not(
    cloud: ApiCloud,
) -> None:
    """Between any two pages rows are changed, made and deleted, on pages read and to come."""
    user = cloud.user("torn", "member")
    first = (await created(cloud, user)).instance

    async def make(number: int) -> str:
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name=f"torn-{number}",
            flavor_id=first.flavor_id,
            image_id=first.image_id,
        )
        instance_id: str = (await user.CreateInstance(request)).instance.id
        return instance_id

    ids = [first.id] + [await make(number) for number in range(600)]
    pages = 0

    async def disturb(query: conductor_pb2.Query) -> None:
        nonlocal pages
        if query.kind != INSTANCE or query.id or query.caller.project_id != "torn":
            return
        pages += 1
        for instance_id in (ids[0], ids[300], ids[-1]):
            await cloud.conductor.change_instance(instance_id, fault=f"page {pages}")
        gone = {"state": instance_pb2.INSTANCE_STATE_DELETED}
        await cloud.conductor.change_instance(ids[1 + pages], **gone)
        await cloud.conductor.change_instance(ids[-1 - pages], **gone)
        wish = instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name=f"new-{pages}",
            flavor_id=first.flavor_id,
            image_id=first.image_id,
        )
        mutation = conductor_pb2.Mutation(caller=query.caller, create_instance=wish)
        await cloud.conductor.Accept(conductor_pb2.AcceptRequest(mutations=[mutation]), None)

    cloud.conductor.after_read = disturb
    try:
        async with watching(user) as watcher:
            await watcher.snapshot()
            cloud.conductor.after_read = None
            assert pages >= 3
            truth: dict[str, int] = {}
            for row in cloud.conductor.log[: watcher.revision]:
                if row.kind == INSTANCE and row.project_id == "torn":
                    truth[row.id] = row.version
                    if row.deleted:
                        del truth[row.id]
            assert watcher.versions == truth
            await cloud.conductor.change_instance(ids[0], fault="end")
            while (await watcher.next()).fault != "end":
                pass
    finally:
        cloud.conductor.after_read = None


async def test_a_watch_goes_on_while_the_bus_loses_everything(cloud: ApiCloud) -> None:
    user = cloud.user("mute", "member")
    instance_id = (await created(cloud, user)).instance.id
    async with watching(user) as watcher:
        await watcher.snapshot()
        publish, cloud.conductor.publish = cloud.conductor.publish, None
        try:
            for number in range(3):
                await cloud.conductor.change_instance(instance_id, fault=str(number))
            assert [(await watcher.next()).fault for _ in range(3)] == ["0", "1", "2"]
        finally:
            cloud.conductor.publish = publish


async def test_many_changes_at_once_reach_many_watchers(cloud: ApiCloud) -> None:
    user = cloud.user("many", "member")
    instance_id = (await created(cloud, user)).instance.id

    async def follow() -> list[str]:
        async with watching(user) as watcher:
            await watcher.snapshot()
            begun.release()
            return [(await watcher.next()).fault for _ in range(300)]

    begun = asyncio.Semaphore(0)
    followers = [asyncio.ensure_future(follow()) for _ in range(8)]
    for _ in followers:
        await asyncio.wait_for(begun.acquire(), 30)
    for number in range(300):
        await cloud.conductor.change_instance(instance_id, fault=str(number))
    for faults in await asyncio.gather(*followers):
        assert faults == [str(number) for number in range(300)]


async def test_a_reader_that_is_too_slow_is_cut_off_and_nobody_else(cloud: ApiCloud) -> None:
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


async def test_a_watch_ends_when_its_token_does(cloud: ApiCloud) -> None:
    claims = cloud.signer.claims("short", "reader")
    user = cloud.user("short", "reader", exp=claims["iat"] + 3)
    refused = await refusal(user.WatchInstances(instance_pb2.WatchInstancesRequest()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
