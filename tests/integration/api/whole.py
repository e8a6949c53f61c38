"""api with the real conductor, scheduler, PostgreSQL and bus; hosts are played, over the real
door.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
from stead.internal.v1 import compute_pb2 as pb
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

from services.runtime import bus, subjects
from tests.engines import PATIENCE_S, nats_server, postgres
from tests.integration.api.cloud import CLOUD_ID, ApiCloud, User, new_id
from tests.integration.api.test_ingress import Agent, agent
from tests.integration.api.uploads import imported

BEAT_EVERY_S = 10.0


class WholeCloud(ApiCloud):
    """One api with all that it talks to."""

    conductor_process: asyncio.subprocess.Process
    scheduler_process: asyncio.subprocess.Process
    sql: Callable[[str], str]


@asynccontextmanager
async def whole_cloud(folder: Path) -> AsyncIterator[WholeCloud]:
    """A cloud in which only hosts are missing, ready to be called."""
    with postgres(folder / "pg") as database, nats_server(folder / "nats") as nats:
        cloud = WholeCloud(folder, nats)
        cloud.sql = database.sql
        environment = {
            **cloud.environment(),
            "STEAD_CONDUCTOR_LISTEN": cloud.conductor_target,
            "STEAD_CONDUCTOR_ADMIN_LISTEN": f"unix:{folder}/conductor-admin.sock",
            "STEAD_CONDUCTOR_POSTGRES_URL": database.url(),
            "STEAD_SCHEDULER_ADMIN_LISTEN": f"unix:{folder}/scheduler-admin.sock",
            "STEAD_SCHEDULER_CONDUCTOR": cloud.conductor_target,
        }
        processes = []
        for service in ("conductor", "scheduler"):
            argv = (sys.executable, "-m", f"services.{service}")
            processes.append(await asyncio.create_subprocess_exec(*argv, env=environment))
        cloud.conductor_process, cloud.scheduler_process = processes
        await cloud.start_api()
        try:
            await cloud.until_ready()
            yield cloud
        finally:
            await cloud.end_api()
            for process in processes:
                with suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait_for(process.wait(), PATIENCE_S)
            await cloud.channel.close()
            await cloud.ingress_channel.close()


async def flavor(cloud: ApiCloud, **changed: int) -> flavor_pb2.Flavor:
    """A new size."""
    sizes = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1, **changed}
    request = flavor_pb2.CreateFlavorRequest(request_id=new_id(), name=f"f-{new_id()}", **sizes)
    made: flavor_pb2.Flavor = (await cloud.admin().CreateFlavor(request)).flavor
    return made


async def wish(cloud: ApiCloud, user: User, **changed: str) -> instance_pb2.CreateInstanceRequest:
    """A wish for an instance, with flavor and image made for it."""
    fields = {"request_id": new_id(), "name": f"i-{new_id()}", **changed}
    if "flavor_id" not in fields:
        fields["flavor_id"] = (await flavor(cloud)).id
    if "image_id" not in fields:
        fields["image_id"] = (await imported(user)).id
    return instance_pb2.CreateInstanceRequest(**fields)


def hello(host_id: str, vcpus: int = 8) -> pb.Hello:
    """How a host introduces itself; memory and disk grow with its vCPUs."""
    capacity = host_pb2.Resources(vcpus=vcpus, memory_mib=2048 * vcpus, disk_gib=25 * vcpus)
    return pb.Hello(
        host_id=host_id,
        machine_id=f"machine-{host_id}",
        boot_id="boot",
        capacity=capacity,
        reserved=host_pb2.Resources(),
        overcommit=host_pb2.OvercommitRatio(
            vcpus_permille=4000, memory_permille=1000, disk_permille=1000
        ),
        capabilities=host_pb2.DriverCapabilities(
            driver="fake",
            hypervisor=host_pb2.HYPERVISOR_KIND_FAKE,
            image_kinds=[image_pb2.IMAGE_KIND_RAW],
            architectures=[image_pb2.ARCHITECTURE_X86_64],
            console_output=True,
            pause=True,
            suspend=True,
        ),
    )


@asynccontextmanager
async def commanded(cloud: ApiCloud, host_id: str) -> AsyncIterator["asyncio.Queue[pb.Wanted]"]:
    """What the conductor wants of a host, as its commands come."""
    wanted: asyncio.Queue[pb.Wanted] = asyncio.Queue()
    connected = await bus.connect(cloud.nats.url, name="host", credential=("stead", "secret"))

    async def receive(payload: bytes) -> None:
        for one in pb.CommandBatch.FromString(payload).wanted:
            await wanted.put(one)

    await connected.subscribe(subjects.host_command(CLOUD_ID, host_id), receive)
    await connected._client.flush()  # the bus knows of it from now on
    try:
        yield wanted
    finally:
        await connected.close()


@asynccontextmanager
async def obedient(cloud: ApiCloud, host_id: str) -> AsyncIterator[None]:
    """A large host that does at once whatever it is told."""
    async with commanded(cloud, host_id) as wanted, agent(cloud, host_id) as host:
        await host.say(hello=hello(host_id, vcpus=1000))

        async def obey() -> None:
            while True:
                try:
                    command = await asyncio.wait_for(wanted.get(), BEAT_EVERY_S)
                except TimeoutError:
                    await host.tell(beat=pb.Beat())
                    continue
                await host.tell(observations=done(host, command))

        async def listen() -> None:
            # Acknowledgements come when they come: nothing waits for them.
            while await host.stream.read() is not grpc.aio.EOF:
                pass

        tasks = [asyncio.create_task(obey()), asyncio.create_task(listen())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result


def done(host: Agent, command: pb.Wanted) -> pb.Observations:
    """What a host says that has done what it was told."""
    if not command.spec.present:
        return host.seen(command.instance_id, command.epoch, absent=True)
    return host.seen(
        command.instance_id,
        command.epoch,
        applied_generation=command.generation,
        power=command.spec.power,
    )


async def ended(user: User, operation: operation_pb2.Operation) -> int:
    """The state in which the operation ends."""
    request = operation_pb2.WaitOperationRequest(id=operation.id)
    state: int = (await user.WaitOperation(request)).operation.state
    return state
