"""Conductors as processes on one database and one bus; the scheduler and the hosts are scripted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc
from stead.internal.v1 import scheduler_pb2 as scheduling
from stead.v1 import flavor_pb2, image_pb2, instance_pb2

from services.runtime import rpc
from tests.engines import Nats, nats_server
from tests.integration.conductor.conftest import Place
from tests.stores import CLOUD

PATIENCE_S = 90.0
ROOT = Path(__file__).parents[3]
AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
ME = conductor_pb2.Caller(subject="me", project_id="p", cloud_admin=True)


class Process:
    """A conductor as a process of its own, killed and started again at will."""

    def __init__(self, folder: Path, place: Place, bus: Nats, n: int) -> None:
        self.target = f"unix:{folder}/conductor{n}.sock"
        self._process: asyncio.subprocess.Process | None = None
        self._log = folder / f"conductor{n}.log"
        self._environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}",
            "STEAD_CLOUD_ID": CLOUD,
            "STEAD_NATS_URL": bus.url,
            "STEAD_NATS_CREDENTIAL_FILE": str(bus.credential_file),
            "STEAD_CONDUCTOR_LISTEN": self.target,
            "STEAD_CONDUCTOR_ADMIN_LISTEN": f"unix:{folder}/admin{n}.sock",
            "STEAD_CONDUCTOR_POSTGRES_URL": place.url,
        }

    async def start(self, module: str = "services.conductor", *words: str) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *words, env=self._environment, stderr=log
            )

    async def exited(self) -> int:
        """The exit code of one that ends by itself."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def end(self) -> int:
        """The exit code after SIGTERM."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        async with asyncio.timeout(60):
            return await self._process.wait()


@dataclass
class Cloud:
    """What a test holds; `stub()` is one of the conductors."""

    processes: list[Process]
    stubs: list[conductor_pb2_grpc.ConductorServiceAsyncStub]
    bus: Client
    random: Random
    incarnations: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    failing: float = 0.2
    work: set[asyncio.Task[None]] = field(default_factory=set)

    def stub(self) -> conductor_pb2_grpc.ConductorServiceAsyncStub:
        return self.random.choice(self.stubs)

    async def insist(self, call: Callable[[], Awaitable[object]]) -> object:
        """Asks again, any conductor, for as long as they are away."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AWAY:
                        raise
                    await asyncio.sleep(0.05)

    async def accept(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        request = conductor_pb2.AcceptRequest(mutations=[mutation])
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self.insist(lambda: self.stub().Accept(request, timeout=10))
                assert isinstance(answer, conductor_pb2.AcceptResponse)
                (result,) = answer.results
                if result.error.code != grpc.StatusCode.UNAVAILABLE.value[0]:
                    return result

    async def greet(self, host_id: str) -> None:
        hello = compute_pb2.Hello(host_id=host_id, machine_id="m", boot_id="b")
        hello.capacity.vcpus, hello.capacity.memory_mib, hello.capacity.disk_gib = 20, 2000, 200
        for ratio in ("vcpus_permille", "memory_permille", "disk_permille"):
            setattr(hello.overcommit, ratio, 1000)
        request = conductor_pb2.GreetRequest(hello=hello)
        answer = await self.insist(lambda: self.stub().Greet(request, timeout=10))
        assert isinstance(answer, conductor_pb2.GreetResponse)
        assert not answer.HasField("error"), answer.error
        self.incarnations[host_id] = answer.view.incarnation
        self.sequences[host_id] = 0
        for wanted in answer.view.wanted:
            self.do(host_id, answer.view.incarnation, wanted)

    def do(self, host_id: str, incarnation: int, wanted: compute_pb2.Wanted) -> None:
        """What a host does about a wish: it works a moment, and then says how it went."""
        task = asyncio.create_task(self._work(host_id, incarnation, wanted))
        self.work.add(task)
        task.add_done_callback(self.work.discard)

    async def _work(self, host_id: str, incarnation: int, wanted: compute_pb2.Wanted) -> None:
        await asyncio.sleep(self.random.random() * 0.05)
        # The same claim fails each time that it is tried.
        fails = wanted.spec.present and Random(wanted.epoch).random() < self.failing
        absent = fails or not wanted.spec.present
        self.sequences[host_id] += 1
        observation = compute_pb2.Observation(
            sequence=self.sequences[host_id],
            instance_id=wanted.instance_id,
            epoch=wanted.epoch,
            applied_generation=0 if fails else wanted.generation,
            power=instance_pb2.INSTANCE_POWER_OFF
            if absent or not wanted.spec.run
            else instance_pb2.INSTANCE_POWER_RUNNING,
            absent=absent,
        )
        if fails:
            observation.failure.reason = "UNLUCKY"
        said = conductor_pb2.HostObservation(
            host_id=host_id, incarnation=incarnation, observation=observation
        )
        request = conductor_pb2.ObserveRequest(observations=[said])
        await self.insist(lambda: self.stub().Observe(request, timeout=10))

    async def on_command(self, message: Msg) -> None:
        batch = compute_pb2.CommandBatch.FromString(message.data)
        if batch.incarnation == self.incarnations.get(batch.host_id):
            for wanted in batch.wanted:
                self.do(batch.host_id, batch.incarnation, wanted)

    async def on_place(self, message: Msg) -> None:
        """Decides at random, sometimes twice, sometimes for what is not there."""
        decisions = []
        for request in scheduling.PlaceBatch.FromString(message.data).requests:
            hosts = [h for h in self.incarnations if h not in request.excluded_host_ids]
            host_id = self.random.choice([*hosts, "nowhere"])
            decision = scheduling.Decision(
                instance_id=request.instance_id, attempt=request.attempt, host_id=host_id, hosts=4
            )
            decisions += [decision] * self.random.choice((1, 1, 2))
        for _ in range(self.random.choice((1, 1, 2))):
            batch = scheduling.DecisionBatch(decisions=decisions)
            await self.bus.publish(f"stead.{CLOUD}.decided", batch.SerializeToString())


@contextlib.asynccontextmanager
async def two_conductors(place: Place, folder: Path) -> AsyncIterator[Cloud]:
    """Two conductors and four hosts, at work."""
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(nats_server(folder / "nats"))
        processes = [Process(folder, place, server, n) for n in range(2)]
        stubs = []
        for process in processes:
            await process.start()
            stack.push_async_callback(process.end)
            channel = await stack.enter_async_context(rpc.channel(process.target))
            stubs.append(conductor_pb2_grpc.ConductorServiceStub(channel))
        bus = await nats.connect(server.url, user="stead", password="secret")
        stack.push_async_callback(bus.close)
        made = Cloud(processes, stubs, bus, Random(7))
        await bus.subscribe(f"stead.{CLOUD}.place", cb=made.on_place)
        await bus.subscribe(f"stead.{CLOUD}.host.*.command", cb=made.on_command)
        for n in range(4):
            await made.greet(f"h{n}")
        yield made
        for task in list(made.work):
            task.cancel()


def create(name: str, ids: tuple[str, str], request_id: str) -> conductor_pb2.Mutation:
    return conductor_pb2.Mutation(
        caller=ME,
        create_instance=instance_pb2.CreateInstanceRequest(
            request_id=request_id, name=name, flavor_id=ids[0], image_id=ids[1]
        ),
    )


async def catalog(cloud: Cloud) -> tuple[str, str]:
    """A flavor and an image; their ids."""
    flavor = flavor_pb2.CreateFlavorRequest(
        request_id=str(uuid.uuid4()), name="small", vcpus=1, memory_mib=64, disk_gib=1
    )
    image = image_pb2.ImageDescription(
        request_id=str(uuid.uuid4()),
        name="disk",
        kind=image_pb2.IMAGE_KIND_RAW,
        architecture=image_pb2.ARCHITECTURE_X86_64,
        digest="a" * 64,
        size_bytes=1,
        visibility=image_pb2.IMAGE_VISIBILITY_PUBLIC,
    )
    register = conductor_pb2.RegisterImage(description=image, min_disk_gib=1)
    results = [
        await cloud.accept(conductor_pb2.Mutation(caller=ME, create_flavor=flavor)),
        await cloud.accept(conductor_pb2.Mutation(caller=ME, register_image=register)),
    ]
    return results[0].resource.id, results[1].resource.id


async def all_ended(place: Place) -> None:
    """Waits for the end of every operation."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if place.sql("SELECT count(*) FROM operation WHERE NOT finished") == "0":
                return
            await asyncio.sleep(0.2)
