"""How the process lives: it begins alone, ends in order, and comes back after a crash."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stead.v1 import image_pb2, instance_pb2, operation_pb2

from tests.integration.api.cloud import ApiCloud, Refusal, refusal
from tests.integration.api.test_api_service import created
from tests.integration.api.test_ingress import agent
from tests.integration.api.test_watch import watching
from tests.integration.api.uploads import RAW, description, imported, parts


async def health_of(cloud: ApiCloud) -> int:
    async with grpc.aio.insecure_channel(cloud.admin_target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="stead.api"), timeout=30, wait_for_ready=True
        )
        status: int = answer.status
        return status


async def test_it_ends_in_order_within_ten_seconds(own_cloud: ApiCloud) -> None:
    user = own_cloud.user("ends", "member")
    answer = await created(own_cloud, user)
    async with watching(user) as watcher, agent(own_cloud, "h-ends") as host:
        await watcher.snapshot()
        await host.hello()
        wait = operation_pb2.WaitOperationRequest(id=answer.operation.id)
        waiting = asyncio.ensure_future(refusal(user.WaitOperation(wait)))
        await asyncio.sleep(0.3)
        begun_s = time.monotonic()
        assert await own_cloud.end_api() == 0
        assert time.monotonic() - begun_s < 10
        assert (await waiting).reason == "API_STOPPING"
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await watcher.next()
        told = Refusal(cut.value)
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "API_STOPPING")
        assert told.retry_s


async def test_it_is_alive_but_not_ready_until_it_reaches_the_conductor(
    own_cloud: ApiCloud,
) -> None:
    await own_cloud.end_api()
    await own_cloud.conductor.stop()
    await own_cloud.start_api()
    assert await health_of(own_cloud) == health_pb2.HealthCheckResponse.NOT_SERVING
    request = instance_pb2.ListInstancesRequest()
    user = own_cloud.user("early", "reader")
    for _ in range(200):
        refused = await refusal(user.ListInstances(request))
        if refused.reason:
            break
        await asyncio.sleep(0.05)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "PEER_UNREACHABLE")
    await own_cloud.conductor.start(own_cloud.conductor_target)
    await own_cloud.until_ready()


async def test_it_serves_without_the_bus_and_finds_it_later(own_cloud: ApiCloud) -> None:
    await own_cloud.end_api()
    own_cloud.nats.process.terminate()
    own_cloud.nats.process.wait(60)
    await own_cloud.start_api()
    await own_cloud.until_ready()
    user = own_cloud.user("busless", "member")
    instance_id = (await created(own_cloud, user)).instance.id
    await own_cloud.conductor.change_instance(instance_id, host_id="h", epoch=1)
    request = instance_pb2.GetConsoleOutputRequest(id=instance_id)
    assert (await refusal(user.GetConsoleOutput(request))).reason == "HOST_UNREACHABLE"
    async with watching(user) as watcher:
        await watcher.snapshot()
        await own_cloud.conductor.change_instance(instance_id, fault="seen")
        assert (await watcher.next()).fault == "seen"
    own_cloud.nats.start()


async def test_after_a_crash_nothing_of_an_upload_is_left(own_cloud: ApiCloud) -> None:
    user = own_cloud.user("crash", "member")
    kept = await imported(user)
    incoming = own_cloud.images / "incoming"

    async def hanging() -> AsyncIterator[Any]:
        yield image_pb2.ImportImageRequest(description=description(RAW))
        yield image_pb2.ImportImageRequest(chunk=RAW)
        await asyncio.sleep(60)

    call = user.ImportImage(hanging())
    for _ in range(200):
        if list(incoming.iterdir()):
            break
        await asyncio.sleep(0.05)
    assert list(incoming.iterdir())
    await own_cloud.end_api(signal.SIGKILL)
    call.cancel()
    assert list(incoming.iterdir())
    await own_cloud.start_api()
    await own_cloud.until_ready()
    assert not list(incoming.iterdir())
    assert (own_cloud.images / kept.digest).exists()
    shown = await user.GetImage(image_pb2.GetImageRequest(id=kept.id))
    assert shown.image == kept
