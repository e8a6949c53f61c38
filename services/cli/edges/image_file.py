"""A look at an image file on this machine: what it seems to be. api looks again and decides."""

import itertools
import tarfile
from pathlib import Path

from services.domain.kinds import ImageKind

QCOW2_MAGIC = b"QFI\xfb"
KERNEL_FILES = frozenset({"kernel", "initrd", "cmdline"})
TAR_MEMBERS_MAX = 8


def guess_kind(file: Path) -> ImageKind:
    """qcow2 by its magic, kernel by the three files of its tar, else raw. Raises OSError."""
    with file.open("rb") as source:
        if source.read(4) == QCOW2_MAGIC:
            return ImageKind.QCOW2
    try:
        with tarfile.open(file, "r:") as archive:
            first = itertools.islice(archive, TAR_MEMBERS_MAX)
            names = {member.name.removeprefix("./") for member in first}
    except (tarfile.TarError, EOFError):
        return ImageKind.RAW
    return ImageKind.KERNEL if names >= KERNEL_FILES else ImageKind.RAW
