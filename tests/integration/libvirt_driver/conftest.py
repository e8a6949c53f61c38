"""A libvirtd, a libvirt driver on it, and an image."""

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.compute.edges.drivers.libvirt.driver import make_driver
from services.compute.flows.ports import Driver, GuestSpec, ImageFile
from services.compute.logic.guest import Guest, Identity
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from tests.hypervisors import Libvirtd, guest_image, libvirtd, until

CLOUD_ID = "0123456789ab"
HANGING_S = 120
SPEC = GuestSpec(
    name="Büro 1",
    project_id="shop",
    resources=Resources(vcpus=1, memory_mib=128, disk_gib=3),
    ssh_public_keys=("ssh-ed25519 AAAA ann", "ssh-ed25519 BBBB bob"),
    user_data=b"#!/bin/sh\necho user data of $(hostname)\n",
)


@dataclass
class Bench:
    """A libvirtd, a driver on it, and an image."""

    daemon: Libvirtd
    state_dir: Path
    driver: Driver
    image: ImageFile

    async def seen(self) -> list[Guest]:
        """The guests without the names of their runs."""
        return [replace(guest, incarnation="") for guest in await self.driver.list_guests()]

    async def running(self, image: ImageFile | None = None) -> Identity:
        identity = Identity(CLOUD_ID, str(uuid.uuid4()), 7)
        await self.driver.prepare_guest(identity, SPEC, image or self.image)
        await self.driver.start_guest(identity)
        return identity


@pytest.fixture(scope="module")
def kernel_image() -> Path:
    return guest_image()


@pytest.fixture
def daemon() -> Iterator[Libvirtd]:
    with libvirtd() as running:
        yield running


@pytest.fixture
async def bench(daemon: Libvirtd, kernel_image: Path) -> AsyncIterator[Bench]:
    state_dir = daemon.home / "compute"
    driver = await make_driver("qemu", cloud_id=CLOUD_ID, state_dir=state_dir, uri=daemon.uri)
    image = ImageFile(kernel_image, ImageKind.KERNEL, Architecture.X86_64)
    yield Bench(daemon, state_dir, driver, image)
    await driver.close()


async def said(driver: Driver, identity: Identity, words: bytes) -> bytes:
    async def is_there() -> bool:
        return words in (await driver.read_console_log(identity, 1 << 20)).content

    await until(is_there)
    return (await driver.read_console_log(identity, 1 << 20)).content
