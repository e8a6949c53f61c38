"""Stop, start, reboot and the console of a real guest under QEMU, by a real agent."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from stead.internal.v1 import compute_pb2
from stead.v1 import image_pb2

from services.compute.edges.drivers.libvirt.driver import make_driver
from services.compute.flows.console_ports import ConsoleAsk
from services.compute.flows.ports import Driver
from services.domain.instance import Power
from tests.fakes.ingress import FakeLine
from tests.hypervisors import Libvirtd, guest_image, libvirtd
from tests.integration.compute.conftest import CLOUD_ID, Living, Stage, wanted
from tests.integration.compute.test_console import Terminal
from tests.integration.compute.test_power import met

PATIENCE_S = 120.0
PROMPT = b"root@web-1:/root# "
READ = ConsoleAsk(0, write=False, take_over=False)
WRITE = ConsoleAsk(0, write=True, take_over=False)


@pytest.fixture
def daemon() -> Iterator[Libvirtd]:
    with libvirtd() as running:
        yield running


@pytest.fixture
async def driver(daemon: Libvirtd) -> AsyncIterator[Driver]:
    folder = daemon.home / "compute"
    made = await make_driver("qemu", cloud_id=CLOUD_ID, state_dir=folder, uri=daemon.uri)
    yield made
    await made.close()


@pytest.fixture
def image(stage: Stage) -> bytes:
    content = Path(guest_image()).read_bytes()
    stage.ingress.blobs[hashlib.sha256(content).hexdigest()] = content
    return content


def wish_of(image: bytes, **how: int) -> compute_pb2.Wanted:
    wish = wanted("web-1", image, **how)
    wish.spec.image.kind = image_pb2.IMAGE_KIND_KERNEL
    wish.spec.memory_mib = 128
    return wish


async def meets(host: Living, wish: compute_pb2.Wanted) -> None:
    host.command(wish)
    seen = host.ingress.hosts["h1"].seen
    key = (wish.instance_id, wish.epoch)
    await host.ingress.until(lambda: key in seen and met(wish)(seen[key]), timeout_s=PATIENCE_S)


async def heard(line: FakeLine, words: bytes, times: int = 1) -> None:
    await line.until(lambda: line.content.count(words) >= times, timeout_s=PATIENCE_S)


async def asked_and_answered(line: FakeLine, question: bytes, answer: bytes) -> None:
    # What is typed before its shell is there, a guest throws away.
    await line.until(lambda: line.content.endswith(PROMPT), timeout_s=PATIENCE_S)
    line.type(question + b"\n")
    await heard(line, b"\n" + answer)


async def test_a_guest_is_typed_into_stopped_started_and_rebooted_by_itself_and_by_its_owner(
    stage: Stage, daemon: Libvirtd, driver: Driver, image: bytes
):
    async with stage.living(driver) as host:
        await host.viewed()
        made = wish_of(image)
        await meets(host, made)
        assert "disable" in daemon.virsh("dominfo", made.instance_id).split("Autostart:")[1]
        terminal = Terminal(stage, host, made)
        line = await terminal.opened(WRITE)
        await heard(line, b"STEAD-GUEST")
        await asked_and_answered(line, b"echo $((6 * 7))-answer", b"42-answer")

        await meets(host, wish_of(image, generation=2, boot=2, grace_s=3600))
        await heard(line, b"STEAD-GUEST", 2)
        await asked_and_answered(line, b"echo second-$((1 + 1))", b"second-2")

        await meets(host, wish_of(image, generation=3, boot=2, power=Power.OFF, grace_s=3600))
        assert daemon.virsh("domstate", "--reason", made.instance_id) == "shut off (shutdown)"

        await meets(host, wish_of(image, generation=4, boot=2))
        await heard(line, b"STEAD-GUEST", 3)
        (before,) = await driver.list_guests()
        await asked_and_answered(line, b"reboot; echo going", b"going")
        await heard(line, b"STEAD-GUEST", 4)
        (after,) = await driver.list_guests()
        assert after == before, "a reboot from inside is the guest's own affair"

        await asked_and_answered(line, b"poweroff; echo off", b"off")
        await host.until_seen(made, lambda o: o.power == Power.OFF)
        assert (await driver.list_guests())[0].applied_generation == 4
        await asyncio.sleep(1)
        assert line.content.count(b"STEAD-GUEST") == 4
        line.hang_up()
        await asyncio.wait_for(asyncio.gather(*terminal.works), PATIENCE_S)


async def test_a_reboot_outlives_its_agent_and_happens_once(
    stage: Stage, driver: Driver, image: bytes
):
    async with stage.living(driver) as host:
        await host.viewed()
        await meets(host, wish_of(image))
        line = await Terminal(stage, host, wish_of(image)).opened(READ)
        await heard(line, b"STEAD-GUEST")
    reboot = stage.ingress.want("h1", wish_of(image, generation=2, boot=2, grace_s=3600))
    for _ in range(6):
        async with stage.living(driver) as host:
            await host.viewed()
            await asyncio.sleep(0.3)
    async with stage.living(driver) as host:
        await meets(host, reboot)
        line = await Terminal(stage, host, reboot).opened(READ)
        await heard(line, b"STEAD-GUEST", 2)
        (guest,) = await driver.list_guests()
        assert (guest.notes.boot, guest.applied_generation) == (2, 2)
        assert line.content.count(b"STEAD-GUEST") == 2
