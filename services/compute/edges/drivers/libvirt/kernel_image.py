"""Kernel images: a tar archive of exactly the regular files `kernel`, `initrd` and `cmdline`.

Owns the copies that are unpacked, once each, beside the image cache. Reads the archive with bounds
and follows no name in it.
"""

import os
import tarfile
from pathlib import Path

from services.compute.edges.drivers.libvirt.domain_xml import DirectBoot
from services.compute.edges.drivers.libvirt.guest_folder import sync
from services.compute.flows.ports import StepFailed

KERNELS = "cache/kernels"
CHUNK_BYTES = 1 << 20
MIB = 1 << 20

_SIZES_MAX_BYTES = {"kernel": 256 * MIB, "initrd": 1024 * MIB, "cmdline": 2048}


def unpack_kernel(state_dir: Path, image: Path) -> DirectBoot:
    """What to boot of an image, whose file name stands for its content.

    Raises StepFailed (IMAGE_REJECTED).
    """
    folder = state_dir / KERNELS / image.name
    if not folder.is_dir():
        _unpack(image, folder)
    try:
        cmdline = (folder / "cmdline").read_text("ascii").strip()
    except UnicodeDecodeError as error:
        raise _rejected("its cmdline is not ASCII") from error
    if not cmdline.isprintable():
        raise _rejected("its cmdline has control characters")
    return DirectBoot(folder / "kernel", folder / "initrd", cmdline)


def _unpack(image: Path, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tarfile.open(image, "r:") as archive:
            missing = set(_SIZES_MAX_BYTES)
            for _ in range(len(_SIZES_MAX_BYTES)):
                member = archive.next()
                if member is None:
                    break
                if member.name not in missing or not member.isreg() or member.issparse():
                    raise _rejected(f"{member.name[:40]!r} is doubled or is no plain file of one")
                missing.discard(member.name)
                _copy(archive, member, partial)
            if missing or archive.next() is not None:
                raise _rejected("it does not hold exactly kernel, initrd and cmdline")
    except (tarfile.TarError, EOFError) as error:
        raise _rejected(f"it is no tar archive: {error}") from error
    sync(partial)
    partial.rename(folder)
    sync(folder.parent)


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    if not 0 < member.size <= _SIZES_MAX_BYTES[member.name]:
        raise _rejected(f"its {member.name} is empty or too large")
    source = archive.extractfile(member)
    if source is None:
        raise _rejected(f"its {member.name} cannot be read")
    left = member.size
    with (folder / member.name).open("wb") as target:
        while left > 0:
            chunk = source.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise _rejected("it ends too early")
            target.write(chunk)
            left -= len(chunk)
        target.flush()
        os.fsync(target.fileno())


def _rejected(why: str) -> StepFailed:
    return StepFailed("IMAGE_REJECTED", f"the kernel image cannot be used: {why}")
