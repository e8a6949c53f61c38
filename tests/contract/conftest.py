"""The drivers that must keep the driver contract, each on a host of the test's own; and one
PostgreSQL for the stores that must keep theirs.
"""

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.edges.drivers.fake_journal import read_guests
from services.compute.edges.drivers.libvirt.driver import make_driver
from services.compute.flows.ports import Driver, GuestSpec, ImageFile
from services.compute.logic.guest import Identity
from services.conductor.edges.store.postgres import PostgresStore
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from tests.engines import Postgres, postgres
from tests.hypervisors import Libvirtd, guest_image, libvirtd
from tests.stores import new_database

CLOUD_ID = "0123456789ab"
CAPACITY = Resources(64, 65536, 1024)
SPEC = GuestSpec(
    name="web-1",
    project_id="shop",
    resources=Resources(vcpus=1, memory_mib=128, disk_gib=1),
    ssh_public_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ann@example",),
    user_data=b"",
)


class FakeHost:
    """A folder in which fake guests stand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = ImageFile(folder / "image", ImageKind.RAW, Architecture.X86_64)
        self.image.path.write_bytes(b"an image")

    async def open(self, cloud_id: str) -> FakeDriver:
        """A driver on what is there, as a restarted agent makes it."""
        return FakeDriver(
            self.folder / "guests", cloud_id=cloud_id, capacity=CAPACITY, faults=Faults()
        )

    def hopeless(self, image: ImageFile) -> tuple[GuestSpec, ImageFile]:
        """What can never be prepared."""
        return replace(SPEC, name="fail-1"), image

    def pull_the_plug(self, driver: Driver, identity: Identity) -> None:
        """Ends a guest behind the agent's back."""
        assert isinstance(driver, FakeDriver)
        driver.power_off_from_inside(identity.claim)

    def leftovers(self, identity: Identity) -> list[str]:
        """What is there of an instance."""
        return [i for i, _ in read_guests(self.folder / "guests") if i == identity.instance_id]


class LibvirtHost:
    """A state folder beside a libvirtd that other tests use as well."""

    def __init__(self, daemon: Libvirtd, image: Path) -> None:
        self.daemon = daemon
        self.folder = daemon.home / uuid.uuid4().hex[:8]
        self.image = ImageFile(image, ImageKind.KERNEL, Architecture.X86_64)

    async def open(self, cloud_id: str) -> Driver:
        """A driver on what is there, as a restarted agent makes it."""
        return await make_driver(
            "qemu", cloud_id=cloud_id, state_dir=self.folder, uri=self.daemon.uri
        )

    def hopeless(self, image: ImageFile) -> tuple[GuestSpec, ImageFile]:
        """What can never be prepared."""
        broken = self.folder / "broken"
        broken.write_bytes(image.path.read_bytes()[:100_000])
        return SPEC, replace(image, path=broken)

    def pull_the_plug(self, driver: Driver, identity: Identity) -> None:
        """Ends a guest behind the agent's back."""
        self.daemon.virsh("destroy", identity.instance_id)

    def leftovers(self, identity: Identity) -> list[str]:
        """What is there of an instance: files but for libvirt's logs, domains, processes."""
        instance_id = identity.instance_id
        files = [p for p in self.daemon.home.rglob(f"*{instance_id}*") if p.suffix != ".log"]
        domains = self.daemon.virsh("list", "--all", "--uuid").split()
        processes = self.daemon.guests()
        return [*map(str, files), *(i for i in (*domains, *processes) if i == instance_id)]


Host = FakeHost | LibvirtHost


@dataclass
class Bench:
    """A host, and the drivers that a test opens on it."""

    host: Host
    stack: contextlib.AsyncExitStack

    @property
    def image(self) -> ImageFile:
        return self.host.image

    async def open(self, cloud_id: str = CLOUD_ID) -> Driver:
        driver = await self.host.open(cloud_id)
        self.stack.push_async_callback(driver.close)
        return driver


@pytest.fixture(scope="session")
def shared_libvirtd() -> Iterator[Libvirtd]:
    with libvirtd() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def kernel_image() -> Path:
    return guest_image()


def _fake_host(_: pytest.FixtureRequest, folder: Path) -> Host:
    return FakeHost(folder)


def _libvirt_host(request: pytest.FixtureRequest, _: Path) -> Host:
    daemon = request.getfixturevalue("shared_libvirtd")
    return LibvirtHost(daemon, request.getfixturevalue("kernel_image"))


HOSTS: dict[str, Callable[[pytest.FixtureRequest, Path], Host]] = {
    "fake": _fake_host,
    "libvirt": _libvirt_host,
}


@pytest.fixture(params=HOSTS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        host = HOSTS[request.param](request, Path(folder))
        async with contextlib.AsyncExitStack() as stack:
            yield Bench(host, stack)
        if isinstance(host, LibvirtHost):
            for instance_id, pid in host.daemon.guests().items():
                assert pid, "a guest has a process"
                host.daemon.virsh("destroy", instance_id)
            for instance_id in host.daemon.virsh("list", "--all", "--uuid").split():
                host.daemon.virsh("undefine", instance_id)
            shutil.rmtree(host.folder)


@pytest.fixture
async def driver(bench: Bench) -> Driver:
    return await bench.open()


@pytest.fixture
def identity() -> Identity:
    return Identity(CLOUD_ID, str(uuid.uuid4()), 5)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL for the tests of the store."""
    with postgres(tmp_path_factory.mktemp("pg")) as running:
        yield running


@pytest.fixture
async def database(server: Postgres) -> str:
    """A new, migrated database."""
    return await new_database(server)


@pytest.fixture
async def store(server: Postgres, database: str) -> AsyncIterator[PostgresStore]:
    """The store over it."""
    made = PostgresStore(server.url(database))
    yield made
    await made.close()
