"""A watch misses nothing: a true snapshot, then every version of every instance, in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from stead.internal.v1 import conductor_pb2
from stead.v1 import host_pb2, instance_pb2, operation_pb2

from tests.fakes.conductor_rows import HOST, INSTANCE
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
        self.token = ""
        self.whole = False

    async def message(self) -> Any:
        message = await asyncio.wait_for(self.stream.read(), 30)
        assert message is not grpc.aio.EOF, await self.stream.code()
        assert message.revision >= self.revision
        return message

    async def snapshot(self) -> "Watcher":
        while True:
            message = await self.message()
            match message.WhichOneof("event"):
                case "existing":
                    self.existing[message.existing.id] = message.existing
                    self.versions[message.existing.id] = message.existing.version
                case "snapshot_done":
                    assert message.snapshot_done.count == len(self.existing)
                    self.whole = True
                    self.revision, self.token = message.revision, message.resume_token
                    return self

    async def next(self) -> instance_pb2.Instance:
        message = await self.message()
        instance: instance_pb2.Instance = message.change.instance
        assert message.revision == instance.revision > self.revision
        known = self.versions.get(instance.id, 0 if self.whole else instance.version - 1)
        assert instance.version == known + 1
        self.revision, self.versions[instance.id] = message.revision, instance.version
        self.token = message.resume_token
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


async def test_a_filter_shows_what_comes_in_and_what_leaves(cloud: ApiCloud) -> None:
    user = cloud.user("filtered", "member")
    first = (await created(cloud, user)).instance
    second = (await created(cloud, user)).instance
    active = {"state": instance_pb2.INSTANCE_STATE_ACTIVE}
    stopped = {"state": instance_pb2.INSTANCE_STATE_STOPPED}
    gone = {"state": instance_pb2.INSTANCE_STATE_DELETED}
    await cloud.conductor.change_instance(first.id, **active)
    async with watching(user, filter='state = "ACTIVE" AND name != "x"') as watcher:
        await watcher.snapshot()
        assert set(watcher.existing) == {first.id}
        for instance_id, fields in (
            (second.id, {"fault": "unseen"}),
            (second.id, active),
            (first.id, stopped),
            (first.id, gone),
            (second.id, gone),
        ):
            await cloud.conductor.change_instance(instance_id, **fields)
        seen = [await watcher.message() for _ in range(3)]
    events = [(message.WhichOneof("event"), message.revision) for message in seen]
    head = len(cloud.conductor.log)
    assert events == [("change", head - 3), ("left", head - 2), ("change", head)]
    assert seen[1].left.instance.state == instance_pb2.INSTANCE_STATE_STOPPED
    assert seen[2].change.instance.state == instance_pb2.INSTANCE_STATE_DELETED


async def test_operations_are_watched_together_and_one_by_one(cloud: ApiCloud) -> None:
    user = cloud.user("worked", "member")
    done = (await created(cloud, user)).operation
    await cloud.conductor.end_operation(done.id, operation_pb2.OPERATION_STATE_DONE)
    running = (await created(cloud, user)).operation
    stream = user.WatchOperations(operation_pb2.WatchOperationsRequest())
    one = user.WatchOperation(operation_pb2.WatchOperationRequest(id=running.id))
    assert (await one.read()).operation == running
    first = await stream.read()
    assert first.existing == running
    mark = await stream.read()
    assert mark.snapshot_done.count == 1
    await cloud.conductor.end_operation(running.id, operation_pb2.OPERATION_STATE_DONE)
    change = await stream.read()
    assert (change.change.id, change.revision) == (running.id, len(cloud.conductor.log))
    stream.cancel()
    last = (await one.read()).operation
    assert last == change.change
    assert await one.read() is grpc.aio.EOF
    unknown = user.WatchOperation(operation_pb2.WatchOperationRequest(id=new_id()))
    assert (await refusal(unknown)).reason == "OPERATION_NOT_FOUND"


async def test_hosts_are_watched_by_cloud_admins(cloud: ApiCloud) -> None:
    await cloud.conductor.commit(HOST, host_pb2.Host(id="w-1", enabled=True))
    stream = cloud.admin().WatchHosts(host_pb2.WatchHostsRequest(filter='enabled = "true"'))
    seen = []
    while (message := await stream.read()).WhichOneof("event") == "existing":
        seen.append(message.existing.id)
    assert "w-1" in seen
    await cloud.conductor.commit(HOST, host_pb2.Host(id="w-1", enabled=False))
    await cloud.conductor.commit(HOST, host_pb2.Host(id="w-2", enabled=True))
    assert (await stream.read()).left.id == "w-1"
    assert (await stream.read()).change.id == "w-2"
    stream.cancel()
    refused = await refusal(cloud.user("p", "admin").WatchHosts(host_pb2.WatchHostsRequest()))
    assert refused.reason == "ROLE_MISSING"
