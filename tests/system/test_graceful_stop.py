"""A service that is told to end says so first, finishes what it has taken, and ends with 0; told
twice it ends at once; and it ends in bounded time whatever it waits for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.api.cloud import CLOUD_ID
from tests.integration.api.whole import WholeCloud, whole_cloud, wish

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CREATES = 40


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[WholeCloud]:
    async with whole_cloud(tmp_path) as cloud:
        yield cloud


async def started(cloud: WholeCloud, service: str, **settings: str) -> asyncio.subprocess.Process:
    """One more process of a service, beside the cloud's own."""
    environment = {**cloud.environment(), **settings}
    argv = (sys.executable, "-m", f"services.{service}")
    return await asyncio.create_subprocess_exec(*argv, env=environment)


async def changes_of_health(channel: grpc.aio.Channel) -> tuple[str, str]:
    """What health says until the service has gone: SERVING first, NOT_SERVING before the end."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60
    )
    seen = ["", ""]
    while (answer := await watch.read()) is not grpc.aio.EOF:
        seen = [seen[1], health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)]
        if answer.status == NOT_SERVING and seen[0] == "SERVING":
            return seen[0], seen[1]
    return seen[0], seen[1]


async def is_serving(channel: grpc.aio.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60
    )
    while (await watch.read()).status != SERVING:
        pass
    watch.cancel()


def fleet_of(cloud: WholeCloud, folder: Path) -> dict[str, str]:
    """A compute with one fake host."""
    return {
        "STEAD_COMPUTE_ADMIN_LISTEN": f"unix:{folder}/compute-admin.sock",
        "STEAD_COMPUTE_API": cloud.environment()["STEAD_API_INGRESS_LISTEN"],
        "STEAD_COMPUTE_DRIVER": "fake",
        "STEAD_COMPUTE_HOST_ID": "stops",
        "STEAD_COMPUTE_STATE_DIR": str(folder / "compute"),
        "STEAD_CLOUD_ID": CLOUD_ID,
    }


async def test_a_conductor_answers_what_it_has_taken_and_ends(
    cloud: WholeCloud, tmp_path: Path
) -> None:
    user = cloud.user("ends", "member")
    first = await wish(cloud, user)
    ids = {"flavor_id": first.flavor_id, "image_id": first.image_id}
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/conductor-admin.sock") as admin:
        health = asyncio.create_task(changes_of_health(admin))
        await is_serving(admin)
        wishes = [await wish(cloud, user, **ids) for _ in range(CREATES)]
        creating = [asyncio.ensure_future(user.CreateInstance(one)) for one in wishes]
        await creating[0]
        cloud.conductor_process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*creating, return_exceptions=True)
        assert await health == ("SERVING", "NOT_SERVING")
        assert await asyncio.wait_for(cloud.conductor_process.wait(), 60) == 0
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} <= {grpc.StatusCode.UNAVAILABLE}
    accepted = {a.instance.id for a in answers if not isinstance(a, BaseException)}
    assert accepted


async def test_a_scheduler_says_that_it_ends_and_ends(cloud: WholeCloud, tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/scheduler-admin.sock") as admin:
        await is_serving(admin)
        health = asyncio.create_task(changes_of_health(admin))
        await asyncio.sleep(0.1)
        cloud.scheduler_process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(cloud.scheduler_process.wait(), 60) == 0
        assert await health == ("SERVING", "NOT_SERVING")


async def test_a_compute_says_that_it_ends_and_ends(cloud: WholeCloud, tmp_path: Path) -> None:
    process = await started(cloud, "compute", **fleet_of(cloud, tmp_path))
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/compute-admin.sock") as admin:
        await is_serving(admin)
        health = asyncio.create_task(changes_of_health(admin))
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert await health == ("SERVING", "NOT_SERVING")


async def test_a_conductor_whose_database_stands_still_ends_in_bounded_time(
    cloud: WholeCloud, tmp_path: Path
) -> None:
    """It cannot wait for answers that do not come: 0, or 3 where its grace ran out."""
    postmaster = psutil.Process(int((tmp_path / "pg/data/postmaster.pid").read_text().split()[0]))
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.5)
        cloud.conductor_process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(cloud.conductor_process.wait(), 60) in (0, 3)
    finally:
        for process in family:
            os.kill(process.pid, signal.SIGCONT)


async def test_a_second_signal_ends_a_service_at_once(cloud: WholeCloud) -> None:
    """Also one that would go on for an hour."""
    await cloud.end_api()
    cloud.settings["STEAD_API_DRAIN_DELAY_S"] = "3600"
    await cloud.start_api()
    await cloud.until_ready()
    assert cloud.process is not None
    cloud.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    assert cloud.process.returncode is None
    cloud.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(cloud.process.wait(), 60) == 3
