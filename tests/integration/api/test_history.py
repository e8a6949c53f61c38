"""A database that was set back has another history: nothing of the old one reaches anybody."""

import asyncio

import grpc
from stead.v1 import instance_pb2, operation_pb2

from tests.integration.api.cloud import ApiCloud, refusal
from tests.integration.api.test_api_service import created
from tests.integration.api.test_watch import read_all, watching


async def test_watches_and_waits_end_and_begin_anew_with_another_history(
    own_cloud: ApiCloud,
) -> None:
    user, conductor = own_cloud.user("history", "member"), own_cloud.conductor
    kept = (await created(own_cloud, user)).instance
    point = len(conductor.log)
    lost = await created(own_cloud, user)
    for number in range(20):
        await conductor.change_instance(kept.id, fault=f"lost {number}")
    async with watching(user) as watcher:
        await watcher.snapshot()
        assert set(watcher.existing) == {kept.id, lost.instance.id}
        wait = operation_pb2.WaitOperationRequest(id=lost.operation.id)
        waiting = asyncio.ensure_future(refusal(user.WaitOperation(wait)))
        conductor.restore(point)
        await conductor.change_instance(kept.id, fault="new")
        refused = await refusal(read_all(watcher))
        assert watcher.changes == []
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
    assert (await waiting).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
    async with watching(user) as watcher:
        await watcher.snapshot()
        assert [i.fault for i in watcher.existing.values()] == ["new"]
        assert watcher.revision == point + 1
        await conductor.change_instance(kept.id, fault="newer")
        assert (await watcher.next()).fault == "newer"
    shown = await user.GetInstance(instance_pb2.GetInstanceRequest(id=kept.id))
    assert shown.instance.fault == "newer"


async def test_another_history_is_noticed_while_the_bus_is_silent(own_cloud: ApiCloud) -> None:
    user, conductor = own_cloud.user("silent", "member"), own_cloud.conductor
    kept = (await created(own_cloud, user)).instance
    async with watching(user) as watcher:
        await watcher.snapshot()
        conductor.publish = None
        conductor.restore(len(conductor.log))
        refused = await refusal(read_all(watcher))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
    async with watching(user) as watcher:
        await watcher.snapshot()
        await conductor.change_instance(kept.id, fault="seen")
        assert (await watcher.next()).fault == "seen"
