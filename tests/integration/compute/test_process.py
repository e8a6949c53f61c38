"""`python -m services.compute` as a process: many hosts, locks, readiness, commands, its end."""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stead.internal.v1 import compute_pb2

from services.compute.edges.drivers.fake_journal import read_guests
from services.domain.instance import Power
from services.runtime import bus, subjects
from tests.engines import free_port
from tests.integration.compute.conftest import CLOUD_ID, Stage, wanted

IMAGE = b"an image " * 10_000
ROOT = Path(__file__).parents[3]
# Part of util-linux. Whatever ends the tests, a timeout too, ends what they started.
WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


class Process:
    """One compute, its log in a file."""

    def __init__(self, stage: Stage, nats_port: int, **settings: str) -> None:
        self.admin = f"unix:{stage.folder}/admin.sock"
        self.log = stage.folder / "compute.log"
        self._stack = stage.stack
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT}/generated",
            "STEAD_CLOUD_ID": CLOUD_ID,
            "STEAD_NATS_URL": f"nats://127.0.0.1:{nats_port}",
            "STEAD_COMPUTE_API": stage.target,
            "STEAD_COMPUTE_DRIVER": "fake",
            "STEAD_COMPUTE_HOST_ID": "h1",
            "STEAD_COMPUTE_STATE_DIR": str(stage.folder / "state"),
            "STEAD_COMPUTE_ADMIN_LISTEN": self.admin,
            **settings,
        }

    async def start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            command = (*WITH_US, sys.executable, "-m", "services.compute")
            self.running = await asyncio.create_subprocess_exec(
                *command, env=self._environment, stderr=log
            )
        # A test that fails leaves no agent behind: it would hold its host's name on this machine.
        self._stack.push_async_callback(self.end, signal.SIGKILL)
        return self.running

    async def ready(self) -> bool:
        async with grpc.aio.insecure_channel(self.admin) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="stead.compute")
            answer = await stub.Check(request, wait_for_ready=True, timeout=60)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def until_ready(self) -> None:
        async with asyncio.timeout(120):
            while not await self.ready():  # noqa: ASYNC110  # health is asked, not told
                await asyncio.sleep(0.05)

    async def end(self, number: int) -> int:
        if self.running.returncode is None:
            self.running.send_signal(number)
        return await asyncio.wait_for(self.running.wait(), 60)


@pytest.fixture
async def nats_port() -> AsyncIterator[int]:
    port = free_port()
    program = Path(sys.executable).parent / "nats-server"
    server = await asyncio.create_subprocess_exec(
        *WITH_US, program, "-a", "127.0.0.1", "-p", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    yield port
    server.terminate()
    await server.wait()


async def command(stage: Stage, port: int, host_id: str, wish: compute_pb2.Wanted) -> None:
    stage.ingress.want(host_id, wish)
    connection = await bus.connect(f"nats://127.0.0.1:{port}", name="test", credential=None)
    payload = stage.ingress.command(host_id, wish)
    await connection.publish(subjects.host_command(CLOUD_ID, host_id), payload)
    await connection.close()


async def until_running(stage: Stage, host_id: str, wish: compute_pb2.Wanted) -> None:
    seen = stage.ingress.hosts[host_id].seen
    key = (wish.instance_id, wish.epoch)
    await stage.ingress.until(lambda: key in seen and seen[key].power == Power.RUNNING)


async def test_guests_outlive_a_killed_compute_which_adopts_them(stage: Stage, nats_port: int):
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    process = Process(stage, nats_port)
    await process.start()
    await process.until_ready()
    wish = wanted("a", IMAGE)
    await command(stage, nats_port, "h1", wish)
    await until_running(stage, "h1", wish)
    await process.end(signal.SIGKILL)
    stage.ingress.hosts["h1"].seen.clear()
    await process.start()
    await until_running(stage, "h1", wish)
    assert stage.ingress.hosts["h1"].hellos[-1].guests[0].epoch == 1
    began = time.monotonic()
    assert await process.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10


async def test_a_compute_killed_anywhere_in_a_reboot_boots_the_guest_once(
    stage: Stage, nats_port: int
):
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    process = Process(stage, nats_port, STEAD_COMPUTE_FAKE_DELAY_S="0.1")
    await process.start()
    await process.until_ready()
    made = wanted("a", IMAGE)
    await command(stage, nats_port, "h1", made)
    await until_running(stage, "h1", made)
    wish = wanted("a", IMAGE, generation=2, boot=2, grace_s=60)
    wish.trace.correlation_id = "call-7"
    await command(stage, nats_port, "h1", wish)
    for lives_s in (0.05, 0.1, 0.15, 0.2, 0.3):
        await asyncio.sleep(lives_s)
        await process.end(signal.SIGKILL)
        await process.start()
        await process.until_ready()
    await stage.ingress.until(
        lambda: stage.ingress.hosts["h1"].seen[wish.instance_id, 1].applied_generation == 2
    )
    (guest,) = read_guests(stage.folder / "state" / "fake" / "h1").values()
    assert (guest.starts, guest.power) == (2, Power.RUNNING)
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if "{" in line]
    found = [line for line in lines if line.get("correlation_id") == "call-7"]
    assert {line["instance"] for line in found} == {wish.instance_id}
    assert await process.end(signal.SIGTERM) == 0


async def test_a_second_agent_of_the_same_state_folder_ends_and_says_why(
    stage: Stage, nats_port: int
):
    process = Process(stage, nats_port)
    first = await process.start()
    await process.until_ready()
    second = Process(stage, nats_port, STEAD_COMPUTE_ADMIN_LISTEN="127.0.0.1:0")
    second.log = stage.folder / "second.log"
    await second.start()
    assert await asyncio.wait_for(second.running.wait(), 60) == 1
    assert f"an agent with process id {first.pid} uses" in second.log.read_text()
    other = Process(
        stage,
        nats_port,
        STEAD_COMPUTE_STATE_DIR=str(stage.folder / "other"),
        STEAD_COMPUTE_ADMIN_LISTEN="127.0.0.1:0",
    )
    other.log = stage.folder / "other.log"
    await other.start()
    assert await asyncio.wait_for(other.running.wait(), 60) == 1
    assert "runs on this machine already" in other.log.read_text()
    assert await process.ready()
    await process.end(signal.SIGTERM)


async def test_without_bus_and_control_plane_it_is_alive_not_ready_and_ends_in_time(stage: Stage):
    await stage.ingress.stop()
    process = Process(stage, free_port())
    await process.start()
    assert not await process.ready()
    began = time.monotonic()
    assert await process.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
    await stage.ingress.start(stage.target)


async def test_a_process_whose_host_is_superseded_ends_and_leaves_its_guests(
    stage: Stage, nats_port: int
):
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    process = Process(stage, nats_port)
    await process.start()
    wish = stage.ingress.want("h1", wanted("a", IMAGE))
    await process.until_ready()
    await stage.ingress.push_view("h1")
    await until_running(stage, "h1", wish)
    await stage.ingress.supersede("h1")
    assert await asyncio.wait_for(process.running.wait(), 60) == 0
    assert len(read_guests(stage.folder / "state" / "fake" / "h1")) == 1


async def test_hundreds_of_hosts_live_in_one_process_and_share_one_image(
    stage: Stage, nats_port: int
):
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    process = Process(stage, nats_port, STEAD_COMPUTE_FAKE_HOSTS="300")
    await process.start()
    await process.until_ready()
    wishes = {f"h1-{n:04}": wanted(f"i{n}", IMAGE) for n in range(300)}
    for host_id, wish in wishes.items():
        await command(stage, nats_port, host_id, wish)
    for host_id, wish in wishes.items():
        await until_running(stage, host_id, wish)
    assert stage.ingress.fetches.total() == 1
    assert await process.end(signal.SIGTERM) == 0


async def test_in_the_middle_of_hundreds_of_builds_it_ends_in_time(stage: Stage, nats_port: int):
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    settings = {"STEAD_COMPUTE_FAKE_HOSTS": "20", "STEAD_COMPUTE_FAKE_DELAY_S": "30"}
    process = Process(stage, nats_port, **settings)
    for number in range(400):
        stage.ingress.want(f"h1-{number % 20:04}", wanted(f"i{number}", IMAGE))
    await process.start()
    folder = stage.folder / "state" / "fake"
    async with asyncio.timeout(60):
        while sum(len(read_guests(host)) for host in folder.glob("*")) < 100:  # noqa: ASYNC110  # files tell nobody
            await asyncio.sleep(0.05)
    began = time.monotonic()
    assert await process.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
