"""The libvirt driver, where it goes beyond the driver contract."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace

import pycdlib
import pytest

from services.compute.flows.ports import ImageFile, StepFailed
from services.compute.logic.guest import Guest, Identity
from services.domain.errors import Conflict, NotFound
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from tests.hypervisors import REPOSITORY, until
from tests.integration.libvirt_driver.conftest import CLOUD_ID, HANGING_S, SPEC, Bench, said


def disk_image(bench: Bench, kind: ImageKind) -> ImageFile:
    path = bench.state_dir / f"image.{kind.name.lower()}"
    qemu_img("create", "-q", "-f", kind.name.lower(), str(path), "64M")
    return ImageFile(path, kind, Architecture.X86_64)


def qemu_img(*words: str) -> str:
    done = subprocess.run(
        ["qemu-img", *words], capture_output=True, text=True, check=True, timeout=HANGING_S
    )
    return done.stdout


async def test_a_guest_reads_its_config_drive(bench: Bench) -> None:
    identity = await bench.running()
    console = await said(bench.driver, identity, b"STEAD-GUEST")
    assert f"STEAD-GUEST name={SPEC.name} id={identity.instance_id}" in console.decode()
    assert b"user data of b-ro-1" in console
    drive = pycdlib.PyCdlib()
    path = bench.state_dir / "instances" / identity.instance_id / "config.iso"
    assert path.stat().st_mode & 0o777 == 0o600
    drive.open(str(path))
    assert drive.pvd.volume_identifier.strip() == b"config-2"
    with drive.open_file_from_iso(rr_path="/openstack/latest/meta_data.json") as file:
        meta_data = json.load(file)
    with drive.open_file_from_iso(joliet_path="/openstack/latest/user_data") as file:
        assert file.read() == SPEC.user_data
    drive.close()
    assert meta_data == {
        "uuid": identity.instance_id,
        "name": SPEC.name,
        "hostname": "b-ro-1",
        "project_id": "shop",
        "public_keys": {"key-0": SPEC.ssh_public_keys[0], "key-1": SPEC.ssh_public_keys[1]},
    }


@pytest.mark.parametrize("kind", [ImageKind.QCOW2, ImageKind.RAW])
async def test_a_disk_is_an_overlay_of_the_image_in_the_flavors_size(
    bench: Bench, kind: ImageKind
) -> None:
    image = disk_image(bench, kind)
    before = image.path.read_bytes()
    identity = await bench.running(image)
    disk = bench.state_dir / "instances" / identity.instance_id / "disk.qcow2"
    seen = json.loads(qemu_img("info", "-U", "-f", "qcow2", "--output=json", str(disk)))
    assert seen["virtual-size"] == 3 << 30
    assert seen["backing-filename"] == str(image.path)
    assert seen["backing-filename-format"] == kind.name.lower()
    assert image.path.read_bytes() == before


async def test_a_kernel_image_is_unpacked_once_for_all_guests(bench: Bench) -> None:
    first = await bench.running()
    unpacked = bench.state_dir / "cache" / "kernels" / bench.image.path.name / "kernel"
    written = unpacked.stat()
    second = await bench.running()
    assert (unpacked.stat().st_ino, unpacked.stat().st_mtime_ns) == (
        written.st_ino,
        written.st_mtime_ns,
    )
    assert {g.identity for g in await bench.driver.list_guests()} == {first, second}


async def test_images_that_do_not_fit_or_refer_to_other_files_are_refused(bench: Bench) -> None:
    large = disk_image(bench, ImageKind.RAW)
    os.truncate(large.path, 4 << 30)
    under = disk_image(bench, ImageKind.QCOW2)
    over = ImageFile(bench.state_dir / "over", ImageKind.QCOW2, Architecture.X86_64)
    create = ("create", "-q", "-f", "qcow2")
    qemu_img(*create, "-b", str(under.path), "-F", "qcow2", str(over.path))
    outside = ImageFile(bench.state_dir / "outside", ImageKind.QCOW2, Architecture.X86_64)
    qemu_img(*create, "-o", f"data_file={bench.state_dir}/raw", str(outside.path), "1M")
    disguised = ImageFile(large.path, ImageKind.QCOW2, Architecture.X86_64)
    foreign = replace(bench.image, architecture=Architecture.AARCH64)
    for image, reason in [
        (large, "IMAGE_TOO_LARGE"),
        (over, "IMAGE_REJECTED"),
        (outside, "IMAGE_REJECTED"),
        (disguised, "IMAGE_REJECTED"),
        (foreign, "ARCHITECTURE_UNSUPPORTED"),
    ]:
        with pytest.raises(StepFailed) as failed:
            await bench.running(image)
        assert failed.value.reason == reason


async def test_a_machine_that_no_hypervisor_makes_is_not_tried(bench: Bench) -> None:
    identity = Identity(CLOUD_ID, str(uuid.uuid4()), 7)
    giant = replace(SPEC, resources=Resources(vcpus=1_000_000, memory_mib=64, disk_gib=1))
    with pytest.raises(StepFailed) as failed:
        await bench.driver.prepare_guest(identity, giant, bench.image)
    assert failed.value.reason == "GUEST_UNSUPPORTED"


async def test_a_guest_that_qemu_refuses_fails_for_good(bench: Bench) -> None:
    identity = Identity(CLOUD_ID, str(uuid.uuid4()), 7)
    greedy = replace(SPEC, resources=Resources(vcpus=1, memory_mib=1 << 26, disk_gib=1))
    await bench.driver.prepare_guest(identity, greedy, bench.image)
    with pytest.raises(StepFailed) as failed:
        await bench.driver.start_guest(identity)
    assert failed.value.reason == "HYPERVISOR_REFUSED"
    # It reaches the owner: nothing of the host's own files may stand in it.
    assert "/" not in failed.value.message
    await bench.driver.erase_guest(identity)
    assert await bench.driver.list_guests() == []


async def test_strangers_of_the_same_libvirtd_are_neither_seen_nor_touched(bench: Bench) -> None:
    stranger = str(uuid.uuid4())
    description = f"""<domain type='qemu'><name>stranger</name><uuid>{stranger}</uuid>
        <memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os></domain>"""
    path = bench.daemon.home / "stranger.xml"
    path.write_text(description)
    bench.daemon.virsh("create", str(path))
    identity = Identity(CLOUD_ID, stranger, 7)
    assert await bench.driver.list_guests() == []
    await bench.driver.stop_guest(identity)
    await bench.driver.erase_guest(identity)
    with pytest.raises(Conflict) as refused:
        await bench.driver.prepare_guest(identity, SPEC, bench.image)
    assert refused.value.reason == "GUEST_OF_OTHER_CLAIM"
    assert await bench.driver.list_guests() == []
    assert bench.daemon.virsh("list", "--uuid") == stranger


async def test_a_guest_that_was_never_prepared_cannot_be_started(bench: Bench) -> None:
    with pytest.raises(NotFound) as refused:
        await bench.driver.start_guest(Identity(CLOUD_ID, str(uuid.uuid4()), 7))
    assert refused.value.reason == "GUEST_NOT_FOUND"


async def test_erasing_refuses_a_guest_that_runs(bench: Bench) -> None:
    identity = await bench.running()
    with pytest.raises(Conflict) as refused:
        await bench.driver.erase_guest(identity)
    assert refused.value.reason == "GUEST_RUNS"
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]


async def test_a_console_that_runs_over_keeps_its_offsets_and_frees_the_disk(bench: Bench) -> None:
    identity = await bench.running()
    await said(bench.driver, identity, b"STEAD-GUEST")
    await bench.driver.stop_guest(identity)
    log = bench.state_dir / "instances" / identity.instance_id / "console.log"
    with log.open("ab") as file:
        file.write(b"x" * (20 << 20))
        file.write(b"the end")
    size = log.stat().st_size
    await bench.driver.list_guests()
    assert log.stat().st_blocks * 512 <= 9 << 20
    kept = await bench.driver.read_console_log(identity, 1 << 30)
    assert kept.content.endswith(b"the end")
    assert b"\0" not in kept.content
    assert kept.start_offset + len(kept.content) == size
    for gone in (0, 1000, kept.start_offset - 4097):
        with pytest.raises(StepFailed) as failed:
            await bench.driver.read_console_from(identity, gone, 10)
        assert failed.value.reason == "CONSOLE_OFFSET_GONE"
    for offset in (kept.start_offset // 4096 * 4096, kept.start_offset, size - 7):
        piece = await bench.driver.read_console_from(identity, offset, 1 << 30)
        assert b"\0" not in piece.content
        assert offset + len(piece.content) == piece.end_offset == size


async def test_a_guest_that_dies_is_crashed_and_can_be_started_again(bench: Bench) -> None:
    identity = await bench.running()
    os.kill(bench.daemon.guests()[identity.instance_id], 9)

    async def is_off() -> bool:
        return (await bench.driver.list_guests())[0].power is not Power.RUNNING

    await until(is_off)
    assert await bench.seen() == [Guest(identity, True, Power.CRASHED, 0)]
    await bench.driver.start_guest(identity)
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]


async def test_an_agent_killed_while_it_prepares_is_taken_up_by_the_next(bench: Bench) -> None:
    for after_s in (0.02, 0.05, 0.1, 0.2):
        identity = Identity(CLOUD_ID, str(uuid.uuid4()), 7)
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PREPARE, bench.daemon.uri, str(bench.state_dir)),
            *(identity.instance_id, str(bench.image.path)),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        async with asyncio.timeout(HANGING_S):
            assert agent.stdout is not None
            while b"ready" not in await agent.stdout.readline():
                assert agent.returncode is None
            await asyncio.sleep(after_s)
            agent.kill()
            await agent.wait()
        await bench.driver.prepare_guest(identity, SPEC, bench.image)
        await bench.driver.start_guest(identity)
        assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]
        await bench.driver.stop_guest(identity)
        await bench.driver.erase_guest(identity)
        with contextlib.suppress(FileNotFoundError):
            assert list((bench.state_dir / "instances").iterdir()) == []


PREPARE = """
import asyncio, pathlib, sys
from services.compute.edges.drivers.libvirt.driver import make_driver
from services.compute.flows.ports import ImageFile
from services.compute.logic.guest import Identity
from services.domain.kinds import Architecture, ImageKind
from tests.integration.libvirt_driver.conftest import CLOUD_ID, SPEC

async def main(uri, folder, instance_id, image):
    state_dir = pathlib.Path(folder)
    driver = await make_driver("qemu", cloud_id=CLOUD_ID, state_dir=state_dir, uri=uri)
    await driver.capabilities()
    print("ready", flush=True)
    image = ImageFile(pathlib.Path(image), ImageKind.KERNEL, Architecture.X86_64)
    await driver.prepare_guest(Identity(CLOUD_ID, instance_id, 7), SPEC, image)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""
