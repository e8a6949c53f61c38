"""The KVM probe: yes where its guest gets to its end, as under QEMU's own emulation; else no."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from services.compute.edges.drivers.libvirt import kvm_probe_rom
from services.compute.edges.drivers.libvirt.choice import choose
from services.compute.edges.drivers.libvirt.kvm_probe import ProbeAnswer, kvm_answer, try_guest
from services.domain.errors import Invalid, Unavailable
from services.domain.kinds import Hypervisor
from tests.hypervisors import until

PATIENT_S = 60.0


def executable(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


async def test_the_probe_guest_runs_under_emulation() -> None:
    assert shutil.which("qemu-system-x86_64"), "install qemu-system-x86"
    assert await try_guest("tcg", deadline_s=PATIENT_S) == ProbeAnswer(True, "the probe guest ran")


async def test_a_qemu_that_never_ends_means_no_and_is_gone_afterwards(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hanging = executable(
        tmp_path / "qemu", f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    )
    began = time.monotonic()
    answer = await try_guest("kvm", qemu=hanging, deadline_s=1.5)
    assert answer == ProbeAnswer(False, "the probe guest did not end within 1.5 s")
    assert time.monotonic() - began < PATIENT_S

    async def are_gone() -> bool:
        return not any(is_alive(int(pid)) for pid in pids.read_text().split())

    await until(are_gone)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_a_qemu_that_fails_or_is_missing_means_no(tmp_path: Path) -> None:
    failing = executable(tmp_path / "qemu", "exit 1")
    assert (await try_guest("kvm", qemu=failing, deadline_s=PATIENT_S)).usable is False
    missing = await try_guest("kvm", qemu=str(tmp_path / "none"), deadline_s=PATIENT_S)
    assert missing.usable is False
    assert "cannot be started" in missing.reason


async def test_a_cancelled_probe_leaves_no_guest(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hanging = executable(tmp_path / "qemu", f"echo $$ > {pid}; exec sleep 600")
    probing = asyncio.create_task(try_guest("kvm", qemu=hanging, deadline_s=PATIENT_S))

    async def is_there() -> bool:
        return pid.exists() and pid.read_text() != ""

    await until(is_there)
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert not is_alive(int(pid.read_text()))


async def test_the_answer_is_remembered_until_the_machine_is_booted_again(tmp_path: Path) -> None:
    first = await kvm_answer(tmp_path)
    assert first.reason
    file = tmp_path / "kvm-probe.json"
    written = json.loads(file.read_text())
    assert written["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file.write_text(json.dumps(written | {"reason": "as remembered"}))
    assert await kvm_answer(tmp_path) == ProbeAnswer(first.usable, "as remembered")
    file.write_text(json.dumps(written | {"boot_id": "an earlier one", "reason": "old"}))
    assert (await kvm_answer(tmp_path)).reason != "old"
    file.write_text("spoilt")
    assert (await kvm_answer(tmp_path)).usable is first.usable


async def test_libvirt_means_kvm_only_where_the_probe_says_yes() -> None:
    async def yes() -> ProbeAnswer:
        return ProbeAnswer(True, "it ran")

    async def no() -> ProbeAnswer:
        return ProbeAnswer(False, "it hung")

    assert (await choose("libvirt", yes)).hypervisor is Hypervisor.KVM
    fallen_back = await choose("libvirt", no)
    assert (fallen_back.hypervisor, fallen_back.driver) == (Hypervisor.QEMU, "qemu")
    assert "it hung" in fallen_back.reason
    assert (await choose("qemu", yes)).hypervisor is Hypervisor.QEMU
    assert (await choose("kvm", yes)).hypervisor is Hypervisor.KVM
    with pytest.raises(Unavailable, match="it hung") as unusable:
        await choose("kvm", no)
    assert unusable.value.reason == "KVM_UNUSABLE"
    with pytest.raises(Invalid) as unknown:
        await choose("xen", no)
    assert unknown.value.reason == "DRIVER_UNKNOWN"


def test_the_bytes_are_those_of_the_source(tmp_path: Path) -> None:
    assert shutil.which("as"), "install binutils"
    if os.uname().machine != "x86_64":
        # Another machine's assembler does not know this language.
        return
    source = Path(kvm_probe_rom.__file__).with_name("kvm_probe_rom.S")
    (line,) = [words for words in source.read_text().splitlines() if "as --64" in words]
    for command in line.lstrip("# ").split(" && "):
        words = [str(source) if word == source.name else word for word in command.split()]
        subprocess.run(words, cwd=tmp_path, check=True, timeout=PATIENT_S)
    assert (tmp_path / "rom.bin").read_bytes() == kvm_probe_rom.kvm_probe_rom()
