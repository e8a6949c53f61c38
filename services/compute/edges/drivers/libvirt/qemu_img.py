"""Disks of guests, made by qemu-img; and the little that is read of images before it sees them.

Every call says each file's format and has limits of time, memory and file size.
"""

import struct
import subprocess
from pathlib import Path

from services.compute.edges.drivers.libvirt.domain_xml import DISK_FORMATS, BackingImage
from services.compute.flows.ports import StepFailed
from services.domain.kinds import ImageKind
from services.runtime.log import logger

CALL_S = 60
CPU_S = 30
ADDRESS_SPACE_BYTES = 2 << 30
FILE_BYTES = 1 << 30
GIB = 1 << 30

_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER = struct.Struct(">4sIQIIQ")
_QCOW2_V3_FEATURES = struct.Struct(">Q")
_QCOW2_V3_FEATURES_AT = 72
# Dirty, corrupt and external data file are refused; a compression type is fine.
_QCOW2_KNOWN_FEATURES = 1 << 3


def make_disk(path: Path, disk_gib: int, backing: BackingImage | None) -> None:
    """Makes a qcow2 file of `disk_gib` at `path`, over the image if there is one.

    Raises StepFailed IMAGE_TOO_LARGE, IMAGE_REJECTED or DISK_NOT_MADE.
    """
    arguments = ["create", "-q", "-f", "qcow2"]
    if backing is not None:
        if _virtual_bytes(backing) > disk_gib * GIB:
            raise StepFailed("IMAGE_TOO_LARGE", f"the image does not fit a disk of {disk_gib} GiB")
        arguments += ["-b", str(backing.path), "-F", DISK_FORMATS[backing.kind]]
    _run_qemu_img([*arguments, "--", str(path), f"{disk_gib}G"])


def _virtual_bytes(image: BackingImage) -> int:
    """The size of the disk that a guest sees. Source: QEMU, docs/interop/qcow2.txt."""
    if image.kind is ImageKind.RAW:
        return image.path.stat().st_size
    with image.path.open("rb") as file:
        header = file.read(_QCOW2_V3_FEATURES_AT + _QCOW2_V3_FEATURES.size)
    if len(header) < _QCOW2_V3_FEATURES_AT:
        raise StepFailed("IMAGE_REJECTED", "the image is no qcow2 file")
    magic, version, backing_at, _, _, size = _QCOW2_HEADER.unpack_from(header)
    if magic != _QCOW2_MAGIC or version not in (2, 3):
        raise StepFailed("IMAGE_REJECTED", "the image is no qcow2 file")
    features = 0
    if version == 3 and len(header) == _QCOW2_V3_FEATURES_AT + _QCOW2_V3_FEATURES.size:
        (features,) = _QCOW2_V3_FEATURES.unpack_from(header, _QCOW2_V3_FEATURES_AT)
    if backing_at or features & ~_QCOW2_KNOWN_FEATURES:
        raise StepFailed("IMAGE_REJECTED", "the image refers to another file, or is not complete")
    return int(size)


def _run_qemu_img(arguments: list[str]) -> None:
    limits = [f"--as={ADDRESS_SPACE_BYTES}", f"--cpu={CPU_S}", f"--fsize={FILE_BYTES}"]
    command = ["prlimit", *limits, "--", "qemu-img", *arguments]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CALL_S, check=False
        )
    except FileNotFoundError as error:
        raise StepFailed("DISK_NOT_MADE", "prlimit is missing: install util-linux") from error
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip()[-500:]
        # Its words can name files of the host: they are for the host's log, not for the owner.
        logger().error("qemu-img failed", exit_code=ended.returncode, said=said)
        raise StepFailed("DISK_NOT_MADE", "the disk could not be made; the host's log says why")
