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

from tests.fakes.conductor_rows import OPERATION
from tests.integration.api.cloud import ApiCloud, Refusal, heard, refusal, until
from tests.integration.api.test_api_service import created
from tests.integration.api.test_ingress import agent
from tests.integration.api.test_watch import watching
from tests.integration.api.uploads import RAW, description, imported


async def hanging() -> AsyncIterator[Any]:
    """An upload that never ends."""
    yield image_pb2.ImportImageRequest(description=description(RAW))
    yield image_pb2.ImportImageRequest(chunk=RAW)
    await asyncio.sleep(600)


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
        async with heard(own_cloud, OPERATION) as is_heard:
            waiting = asyncio.ensure_future(refusal(user.WaitOperation(wait)))
            await asyncio.wait_for(is_heard.wait(), 60)
        uploads = [asyncio.ensure_future(refusal(user.ImportImage(hanging()))) for _ in range(4)]
        await until(lambda: len(list((own_cloud.images / "incoming").iterdir())) == len(uploads))
        begun_s = time.monotonic()
        assert await own_cloud.end_api() == 0
        assert time.monotonic() - begun_s < 10
        assert (await waiting).reason == "API_STOPPING"
        for upload in uploads:
            assert (await upload).code in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
            )
        assert not list((own_cloud.images / "incoming").iterdir())
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
    channel = own_cloud.channel
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
        await asyncio.wait_for(channel.wait_for_state_change(state), 60)
    refused = await refusal(user.ListInstances(request))
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
    call = user.ImportImage(hanging())
    await until(lambda: list(incoming.iterdir()))
    await own_cloud.end_api(signal.SIGKILL)
    call.cancel()
    assert list(incoming.iterdir())
    await own_cloud.start_api()
    await own_cloud.until_ready()
    assert not list(incoming.iterdir())
    assert (own_cloud.images / kept.digest).exists()
    shown = await user.GetImage(image_pb2.GetImageRequest(id=kept.id))
    assert shown.image == kept
