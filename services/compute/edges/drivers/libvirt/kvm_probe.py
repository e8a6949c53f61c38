"""Whether KVM really runs guests here: tried with a tiny guest that must end in time.

Owns the answer and its memory, one per boot of the machine. A /dev/kvm that opens says little:
under some kernels every ordinary guest hangs at its first step into protected mode.
"""

import asyncio
import contextlib
import json
import os
import platform
import signal
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from services.compute.edges.drivers.libvirt.guest_folder import whole_file
from services.compute.edges.drivers.libvirt.kvm_probe_rom import kvm_probe_rom

DEADLINE_S = 3.0
ENDED_WELL = 85
QEMU = "qemu-system-x86_64"

_ANSWER = "kvm-probe.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEVICE = Path("/dev/kvm")
_LOADED = Path("/proc/modules")
_MODULES = Path("/sys/module")


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """Whether guests can run, and why or why not, in words."""

    usable: bool
    reason: str


async def kvm_answer(state_dir: Path) -> ProbeAnswer:
    """The answer for this boot of the machine, from the state folder if it was given before."""
    answer = _remembered(state_dir)
    if answer is None:
        answer = _plain_no() or await try_guest("kvm")
        answer = replace(answer, reason=f"KVM: {answer.reason} (modules: {_modules()})")
        _remember(state_dir, answer)
    return answer


async def try_guest(
    accelerator: str, *, qemu: str = QEMU, deadline_s: float = DEADLINE_S
) -> ProbeAnswer:
    """Boots the probe guest under `accelerator` (QEMU's word: kvm, tcg) and waits for its end."""
    with tempfile.NamedTemporaryFile(suffix=".rom") as rom:
        rom.write(kvm_probe_rom())
        rom.flush()
        try:
            guest = await asyncio.create_subprocess_exec(
                *_command(qemu, accelerator, rom.name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return ProbeAnswer(False, f"{qemu} cannot be started: {error.strerror}")
        try:
            async with asyncio.timeout(deadline_s):
                code = await guest.wait()
        except TimeoutError:
            return ProbeAnswer(False, f"the probe guest did not end within {deadline_s:g} s")
        finally:
            if guest.returncode is None:
                os.killpg(guest.pid, signal.SIGKILL)
                await guest.wait()
    if code != ENDED_WELL:
        return ProbeAnswer(False, f"QEMU ended with {code} instead of running the probe guest")
    return ProbeAnswer(True, "the probe guest ran")


def _plain_no() -> ProbeAnswer | None:
    if platform.machine() != "x86_64":
        return ProbeAnswer(False, f"the probe guest is not made for {platform.machine()}")
    if not _DEVICE.exists():
        return ProbeAnswer(False, f"there is no {_DEVICE}")
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return ProbeAnswer(False, f"this user may not open {_DEVICE}")
    return None


def _modules() -> str:
    names: set[str] = set()
    with contextlib.suppress(OSError):
        names |= {line.split()[0] for line in _LOADED.read_text().splitlines() if line}
    with contextlib.suppress(OSError):
        names |= {path.name for path in _MODULES.iterdir()}
    return ", ".join(sorted(name for name in names if name.split("_")[0] == "kvm")) or "none"


def _remember(state_dir: Path, answer: ProbeAnswer) -> None:
    written = {"boot_id": _BOOT_ID.read_text().strip(), **asdict(answer)}
    with whole_file(state_dir / _ANSWER) as partial:
        partial.write_text(json.dumps(written))


def _remembered(state_dir: Path) -> ProbeAnswer | None:
    try:
        written = json.loads((state_dir / _ANSWER).read_bytes())
        if written["boot_id"] != _BOOT_ID.read_text().strip():
            return None
        return ProbeAnswer(bool(written["usable"]), str(written["reason"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _command(qemu: str, accelerator: str, rom: str) -> list[str]:
    return [
        qemu,
        *("-accel", accelerator),
        *("-machine", "pc"),
        *("-m", "32"),
        "-nodefaults",
        *("-display", "none"),
        "-no-reboot",
        *("-bios", rom),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
    ]
