"""The libvirtd of a home: what outlives it, and what it keeps to itself."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from xml.etree import ElementTree

import pytest

from services.compute.flows.ports import GuestChanged
from services.compute.logic.guest import Guest, Identity
from services.domain.errors import Unavailable
from services.domain.instance import Power
from tests.hypervisors import MODULE, REPOSITORY, Libvirtd, libvirtd, until
from tests.integration.libvirt_driver.conftest import CLOUD_ID, HANGING_S, SPEC, Bench, said


async def test_a_guest_outlives_a_killed_libvirtd_and_is_adopted(bench: Bench) -> None:
    identity = await bench.running()
    await bench.driver.mark_applied(identity, 1)
    before, seen = bench.daemon.guests(), await bench.driver.list_guests()
    bench.daemon.kill()
    assert bench.daemon.guests() == before
    bench.daemon.start()
    assert await bench.driver.list_guests() == seen, "it is the same run, by the same name"
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 1)]
    assert bench.daemon.guests() == before
    await said(bench.driver, identity, b"STEAD-GUEST")
    await bench.driver.stop_guest(identity)
    await bench.driver.erase_guest(identity)
    assert bench.daemon.guests() == {}


async def test_a_guest_whose_qemu_was_not_born_when_libvirtd_was_killed_starts_at_once(
    bench: Bench,
) -> None:
    identity = await bench.running()
    await bench.driver.stop_guest(identity)
    notes = (
        bench.daemon.home / "libvirt/run" / ("qemu" if os.geteuid() == 0 else "libvirt/qemu/run")
    )
    await bench.driver.start_guest(identity)
    (note,) = notes.glob("*.xml")
    unborn = re.sub(
        r"<domstatus .*>",
        "<domstatus state='paused' reason='starting up' pid='0'>",
        note.read_text(),
    )
    bench.daemon.kill()
    os.kill(bench.daemon.guests()[identity.instance_id], 9)
    note.write_text(unborn)
    bench.daemon.start()
    async with asyncio.timeout(20):
        await bench.driver.start_guest(identity)
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]
    assert list(bench.daemon.guests()) == [identity.instance_id]


@pytest.mark.parametrize("after_s", [0.02, 0.05, 0.1, 0.2])
async def test_a_libvirtd_killed_while_it_starts_a_guest_leaves_one_guest(
    bench: Bench, after_s: float
) -> None:
    identity = Identity(CLOUD_ID, str(uuid.uuid4()), 7)
    await bench.driver.prepare_guest(identity, SPEC, bench.image)
    starting = asyncio.create_task(bench.driver.start_guest(identity))
    await asyncio.sleep(after_s)
    bench.daemon.kill()
    bench.daemon.start()
    with contextlib.suppress(Unavailable):
        await starting
    await bench.driver.start_guest(identity)
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]
    assert list(bench.daemon.guests()) == [identity.instance_id]


async def test_a_guest_outlives_an_orderly_end_of_libvirtd(bench: Bench) -> None:
    identity = await bench.running()
    before = bench.daemon.guests()
    bench.daemon.stop()
    bench.daemon.start()
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]
    assert bench.daemon.guests() == before


async def test_the_name_of_a_run_is_never_used_again_not_even_by_the_next_libvirtd(
    bench: Bench,
) -> None:
    identity = await bench.running()
    (before,) = await bench.driver.list_guests()
    await bench.driver.stop_guest(identity)
    bench.daemon.stop()
    bench.daemon.start()
    await bench.driver.start_guest(identity)
    (after,) = await bench.driver.list_guests()
    assert bench.daemon.virsh("domid", identity.instance_id) == before.incarnation.split(".")[-1]
    assert after.incarnation != before.incarnation


async def test_its_keeper_ends_with_a_killed_libvirtd(bench: Bench) -> None:
    identity = await bench.running()
    (libvirtd_pid,) = children(bench.daemon.pid)
    os.kill(libvirtd_pid, 9)
    assert await asyncio.to_thread(bench.daemon.ended) == 128 + 9
    bench.daemon.start()
    assert await bench.seen() == [Guest(identity, True, Power.RUNNING, 0)]


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    names = {int(p): Path(f"/proc/{p}/comm").read_text().strip() for p in text.split()}
    return [p for p, name in names.items() if name == "libvirtd"]


async def test_without_libvirtd_calls_end_in_time_and_say_so(bench: Bench) -> None:
    await bench.driver.list_guests()
    bench.daemon.kill()
    with pytest.raises(Unavailable) as failed:
        await bench.driver.list_guests()
    assert failed.value.reason == "HYPERVISOR_UNREACHABLE"
    bench.daemon.start()
    assert await bench.driver.list_guests() == []


async def test_the_watch_goes_on_after_libvirtd_was_restarted(bench: Bench) -> None:
    identity = await bench.running()
    told: asyncio.Queue[GuestChanged] = asyncio.Queue()

    async def watch() -> None:
        async for change in bench.driver.watch_guests():
            told.put_nowait(change)

    watching = asyncio.create_task(watch())
    bench.daemon.kill()
    bench.daemon.start()

    async def is_told() -> bool:
        # The watch alone has to find libvirtd again; until then the word of a change is lost.
        bench.daemon.virsh("suspend", identity.instance_id)
        bench.daemon.virsh("resume", identity.instance_id)
        return not told.empty()

    await until(is_told)
    assert told.get_nowait() == GuestChanged(identity.instance_id)
    watching.cancel()
    await asyncio.wait({watching})


def test_two_homes_have_two_hosts_that_do_not_see_each_other() -> None:
    with libvirtd() as one, libvirtd() as other:
        uuids = {host_uuid(one), host_uuid(other)}
        assert len(uuids) == 2
        one.kill()
        one.start()
        assert host_uuid(one) in uuids
        assert host_uuid(one) != host_uuid(other)
        assert not Path("/run/libvirt/libvirt-sock").exists() or one.uri != other.uri


def host_uuid(daemon: Libvirtd) -> str:
    found = ElementTree.fromstring(daemon.virsh("capabilities")).findtext("host/uuid")
    assert found
    return found


def test_a_second_libvirtd_of_a_home_is_refused(daemon: Libvirtd) -> None:
    second = refused(daemon.home)
    assert "there is one already" in second
    assert daemon.virsh("list") == ""


def test_a_home_whose_path_is_too_long_is_a_clear_error() -> None:
    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        home = Path(folder) / ("long" * 25)
        home.mkdir()
        said = refused(home)
    assert "too long for unix sockets" in said
    assert "STEAD_HOME" in said


def refused(home: Path) -> str:
    """What a libvirtd that cannot start says."""
    ended = subprocess.run(
        [sys.executable, "-m", MODULE, "--home", str(home)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert ended.returncode == 2
    return ended.stderr


def test_everything_of_a_libvirtd_lies_in_its_home_for_its_owner_alone(daemon: Libvirtd) -> None:
    assert (daemon.home / "libvirt").stat().st_mode & 0o777 == 0o700
    assert daemon.virsh("list", "--all") == ""
    environment = {"PATH": os.environ["PATH"], "HOME": str(daemon.home)}
    seen = subprocess.run(
        ["virsh", "--readonly", "--connect", "qemu:///system", "list"],
        env=environment,
        capture_output=True,
        timeout=HANGING_S,
        check=False,
    )
    assert seen.returncode != 0 or str(daemon.home).encode() not in seen.stdout


PART_OF_CONTRACT = "libvirt and (outlive or leaves_nothing or console or behind)"


def test_the_contract_holds_for_a_user_who_is_not_root() -> None:
    if os.geteuid() != 0:
        # Then tests/contract itself ran so.
        return
    ended = subprocess.run(
        [
            *("unshare", "--user", "--map-user=1000", "--map-group=1000"),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("tests/contract/test_driver.py", "-k", PART_OF_CONTRACT),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]
