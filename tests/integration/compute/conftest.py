"""An agent of one or more fake hosts against a real gRPC server that plays the control plane."""

import asyncio
import contextlib
import hashlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from stead.internal.v1 import compute_pb2
from stead.v1 import image_pb2

from services.compute.edges.attachments import GrpcAttachments
from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.edges.image_cache import ImageCache
from services.compute.edges.ingress import GrpcBlobs, GrpcIngress
from services.compute.edges.messages import command_batch_from_wire
from services.compute.edges.replicas import Door, Replicas
from services.compute.flows.agent import Agent
from services.compute.flows.attach_console import Consoles
from services.compute.flows.fetch_image import ImageFetcher
from services.compute.flows.ports import Driver, HostProfile
from services.compute.flows.reconcile import Tools
from services.compute.logic.guest import Guest
from services.domain.instance import Power
from services.domain.resources import Overcommit, Resources
from tests.fakes.ingress import FakeIngress

CLOUD_ID = "0123456789ab"
CAPACITY = Resources(64, 65536, 1024)
STEPS_MAX = 8


def wanted(
    name: str,
    image: bytes,
    *,
    epoch: int = 1,
    present: bool = True,
    generation: int = 1,
    power: Power = Power.RUNNING,
    boot: int = 1,
    grace_s: int = 0,
) -> compute_pb2.Wanted:
    """A wish for an instance whose id follows from its name."""
    return compute_pb2.Wanted(
        instance_id=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        epoch=epoch,
        generation=generation,
        spec=compute_pb2.Spec(
            present=present,
            power=power.value if present else Power.OFF.value,
            boot=boot,
            grace_s=grace_s,
            project_id="p",
            name=name,
            vcpus=1,
            memory_mib=64,
            disk_gib=1,
            image=compute_pb2.ImageReference(
                digest=hashlib.sha256(image).hexdigest(),
                size_bytes=len(image),
                kind=image_pb2.IMAGE_KIND_RAW,
                architecture=image_pb2.ARCHITECTURE_X86_64,
            ),
        ),
    )


async def until_found(driver: FakeDriver, holds: Callable[[Guest], bool] = lambda _: True) -> Guest:
    """The first guest of which `holds`, once there is one."""
    async with asyncio.timeout(60):
        while not (found := [g for g in await driver.list_guests() if holds(g)]):  # noqa: ASYNC110  # only a look can tell
            await asyncio.sleep(0.01)
    return found[0]


@dataclass
class Stage:
    """One folder, one control plane, and the agents that a test starts on them."""

    folder: Path
    ingress: FakeIngress
    target: str
    stack: contextlib.AsyncExitStack

    def driver(self, host_id: str = "h1", **faults: float) -> FakeDriver:
        return FakeDriver(
            self.folder / "fake" / host_id,
            cloud_id=CLOUD_ID,
            capacity=CAPACITY,
            faults=Faults(**faults),
        )

    def images(self) -> ImageFetcher:
        return ImageFetcher(ImageCache(self.folder / "cache"))

    @contextlib.asynccontextmanager
    async def living(
        self,
        driver: Driver,
        *,
        host_id: str = "h1",
        images: ImageFetcher | None = None,
        targets: list[str] | None = None,
        boot_id: str = "",
    ) -> AsyncIterator["Living"]:
        replicas = Replicas(targets or [self.target])
        self.stack.push_async_callback(replicas.close)
        door = Door(replicas, host_id)
        blobs = GrpcBlobs(door, host_id)
        tools = Tools(driver, images or self.images(), blobs, steps_max=STEPS_MAX, boot_id=boot_id)
        profile = HostProfile(host_id, "m1", "b1", "0", Resources(0, 0, 0), Overcommit())
        agent = Agent(
            profile,
            tools,
            cloud_id=CLOUD_ID,
            ingress=GrpcIngress(door),
            reconnect_s_max=0.5,
        )
        task = asyncio.ensure_future(agent.run())
        consoles = Consoles(driver, agent.reconciler.look)
        try:
            yield Living(agent, task, self.ingress, GrpcAttachments(replicas), consoles)
        finally:
            task.cancel()
            await asyncio.wait({task})


@dataclass
class Living:
    """An agent that runs."""

    agent: Agent
    task: "asyncio.Future[None]"
    ingress: FakeIngress
    attachments: GrpcAttachments
    consoles: Consoles

    async def viewed(self) -> None:
        async with asyncio.timeout(60):
            await self.agent.viewed.wait()

    def command(self, *wishes: compute_pb2.Wanted) -> None:
        """Commits wishes and brings the command over the bus."""
        host_id = self.agent.host_id
        for wish in wishes:
            self.ingress.want(host_id, wish)
        payload = self.ingress.command(host_id, *wishes)
        self.agent.receive_command(command_batch_from_wire(payload))

    async def until_seen(
        self,
        wish: compute_pb2.Wanted,
        holds: Callable[[compute_pb2.Observation], bool] = lambda _: True,
    ) -> compute_pb2.Observation:
        """The newest observation of a claim, once it satisfies `holds`."""
        seen = self.ingress.hosts[self.agent.host_id].seen
        key = (wish.instance_id, wish.epoch)
        await self.ingress.until(lambda: key in seen and holds(seen[key]))
        return seen[key]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    # A unix socket's path must be short, so the folder is not pytest's.
    with tempfile.TemporaryDirectory(prefix="stead-") as name:
        ingress = FakeIngress(CLOUD_ID)
        target = f"unix:{name}/ingress.sock"
        await ingress.start(target)
        async with contextlib.AsyncExitStack() as stack:
            yield Stage(Path(name), ingress, target, stack)
        await ingress.stop()
