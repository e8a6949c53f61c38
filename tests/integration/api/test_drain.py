"""How a replica ends, how old a connection gets, and what a call takes along to the conductor."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stead.v1 import instance_pb2, operation_pb2

from services.api.config import Settings
from services.api.edges.servers import SERVICES
from tests.integration.api.cloud import ApiCloud, User, new_id, refusal
from tests.integration.api.test_api_service import created
from tests.integration.api.uploads import RAW, description, parts

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVING = health_pb2.HealthCheckResponse.SERVING


async def restarted(cloud: ApiCloud, **settings: str) -> None:
    await cloud.end_api()
    cloud.settings.update({f"STEAD_API_{name.upper()}": text for name, text in settings.items()})
    await cloud.start_api()
    await cloud.until_ready()


async def test_a_replica_that_ends_says_so_first_and_still_serves_for_its_delay(
    own_cloud: ApiCloud,
) -> None:
    await restarted(own_cloud, drain_delay_s="3600")
    user = own_cloud.user("drain", "member")
    stub = health_pb2_grpc.HealthStub(own_cloud.channel)
    watches = [
        stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)
        for name in ("", *SERVICES)
    ]
    for watch in watches:
        assert (await watch.read()).status == SERVING
    assert own_cloud.process is not None
    own_cloud.process.send_signal(signal.SIGTERM)
    for watch in watches:
        assert (await watch.read()).status == NOT_SERVING
    assert (await created(own_cloud, user)).instance.id
    own_cloud.process.kill()
    await own_cloud.process.wait()


async def test_a_replica_that_ends_finishes_its_calls_and_gives_watchers_their_token(
    own_cloud: ApiCloud,
) -> None:
    await restarted(own_cloud, drain_delay_s="0.2")
    user = own_cloud.user("ends", "member")
    operation = (await created(own_cloud, user)).operation
    watch = user.WatchInstances(instance_pb2.WatchInstancesRequest())
    while not (await watch.read()).HasField("snapshot_done"):
        pass
    held = own_cloud.conductor.held = asyncio.Event()
    answering = asyncio.ensure_future(
        user.GetOperation(operation_pb2.GetOperationRequest(id=operation.id))
    )
    while not own_cloud.conductor.rounds_held:  # noqa: ASYNC110  # the fake tells nobody
        await asyncio.sleep(0.01)
    assert own_cloud.process is not None
    own_cloud.process.send_signal(signal.SIGTERM)
    refused = await refusal(watch.read())
    held.set()
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "API_STOPPING")
    assert refused.metadata["resume_token"]
    assert (await answering).operation.id == operation.id
    assert await own_cloud.process.wait() == 0


async def test_a_connection_ends_at_its_age_and_calls_do_not_notice(own_cloud: ApiCloud) -> None:
    await restarted(own_cloud, connection_age_s="1")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{own_cloud.port}") as channel:
        await another_connection(own_cloud, channel)


async def another_connection(cloud: ApiCloud, channel: grpc.aio.Channel) -> None:
    """Calls until the channel has given up one connection for another; no call fails."""
    user, states = User(channel, cloud.signer.token("age", "reader")), []

    async def note() -> None:
        state = channel.get_state(try_to_connect=True)
        while True:
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
            states.append(state)

    noting = asyncio.create_task(note())
    async with asyncio.timeout(60):
        while states.count(grpc.ChannelConnectivity.READY) < 2:
            await user.ListInstances(instance_pb2.ListInstancesRequest())
            await asyncio.sleep(0.05)
    noting.cancel()


async def test_an_upload_that_outlives_its_connections_age_comes_to_its_end(
    own_cloud: ApiCloud,
) -> None:
    await restarted(own_cloud, connection_age_s="1")
    aged = asyncio.Event()

    async def slowly() -> AsyncIterator[Any]:
        async for part in parts(description(RAW), RAW):
            yield part
            await aged.wait()

    async with grpc.aio.insecure_channel(f"127.0.0.1:{own_cloud.port}") as channel:
        user = User(channel, own_cloud.signer.token("upload", "member"))
        upload = asyncio.ensure_future(user.ImportImage(slowly()))
        for _ in range(2):
            await another_connection(own_cloud, channel)
        aged.set()
        assert (await upload).image.size_bytes == len(RAW)


async def test_what_outlives_the_grace_too_is_cut(own_cloud: ApiCloud) -> None:
    await restarted(own_cloud, connection_age_s="1", connection_age_grace_s="1")
    user = own_cloud.user("cut", "reader")
    watch = user.WatchInstances(instance_pb2.WatchInstancesRequest())
    cut = await refusal(watch)
    assert (cut.code, cut.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    # Nothing of the replica has ended: the next call finds it.
    assert not (await user.ListInstances(instance_pb2.ListInstancesRequest())).instances


async def test_what_a_call_takes_along_reaches_the_conductor(cloud: ApiCloud) -> None:
    user = cloud.user("along", "member")
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    user.metadata += (("x-request-id", "find-me"), ("traceparent", trace))
    answer = await created(cloud, user)
    mutation = cloud.conductor.mutations[-1]
    assert mutation.create_instance.name == answer.instance.name
    assert (mutation.trace.correlation_id, mutation.trace.traceparent) == ("find-me", trace)
    assert 0 < mutation.time_left_ms <= 180_000
    assert answer.operation.correlation_id == "find-me"


async def test_a_wish_whose_caller_is_gone_is_not_sent(own_cloud: ApiCloud) -> None:
    user = own_cloud.user("gone", "member")
    model = (await created(own_cloud, user)).instance
    sent, held = len(own_cloud.conductor.mutations), asyncio.Event()
    own_cloud.conductor.held = held

    def wish() -> instance_pb2.CreateInstanceRequest:
        return instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name=f"i-{new_id()}",
            flavor_id=model.flavor_id,
            image_id=model.image_id,
        )

    first = asyncio.ensure_future(user.CreateInstance(wish()))
    while not own_cloud.conductor.rounds_held:  # noqa: ASYNC110  # the fake tells nobody
        await asyncio.sleep(0.01)
    late = await refusal(user.CreateInstance(wish(), timeout=0.2))
    assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
    last = asyncio.ensure_future(user.CreateInstance(wish()))
    held.set()
    assert (await first).instance.id
    assert (await last).instance.id
    assert len(own_cloud.conductor.mutations) == sent + 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"drain_delay_s": "-1"},
        {"connection_age_s": "-1"},
        {"connection_age_s": "x"},
        {"connection_age_grace_s": "0"},
    ],
)
def test_settings_that_make_no_sense_are_refused(
    wrong: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch)
    Settings()  # type: ignore[call-arg]  # the environment gives them
    for name, text in wrong.items():
        monkeypatch.setenv(f"STEAD_API_{name.upper()}", text)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings()  # type: ignore[call-arg]  # the environment gives them


def test_an_upload_has_hours_if_nobody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch)
    settings = Settings()  # type: ignore[call-arg]  # the environment gives them
    assert settings.connection_age_s < 3600
    assert settings.connection_age_grace_s >= 12 * 3600


def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What api has to be told."""
    given = {
        "STEAD_CLOUD_ID": "0123456789ab",
        "STEAD_NATS_URL": "nats://127.0.0.1:1",
        "STEAD_API_ADMIN_LISTEN": "unix:a",
        "STEAD_API_INGRESS_LISTEN": "unix:b",
        "STEAD_API_CONDUCTOR": "unix:c",
        "STEAD_API_TOKEN_KEY_FILE": str(tmp_path / "k"),
        "STEAD_API_IMAGE_DIR": str(tmp_path),
    }
    for name, text in given.items():
        monkeypatch.setenv(name, text)
