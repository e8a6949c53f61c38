"""What an image file really is, read from its bytes by our own eyes and no tool's.

Owns which formats come in and which signatures betray another one. Source of the signatures: QEMU's
block drivers. A file is never opened by QEMU before this has called it sound.
"""

from services.api.logic import kernel_archive, qcow2
from services.api.logic.image_verdict import Reader, Rejected, Sound, Verdict, gib_for
from services.domain.kinds import ImageKind

_HEAD_BYTES = 64 * 1024
_TAIL_BYTES = 512

_AT_START: tuple[tuple[bytes, str], ...] = (
    (b"QFI\xfb", "qcow2"),
    (b"QED\x00", "QED"),
    (b"KDMV", "VMDK"),
    (b"COWD", "VMDK"),
    (b"SESPARSE", "VMDK"),
    (b"# Disk DescriptorFile", "VMDK descriptor"),
    (b"conectix", "VHD"),
    (b"cxsparse", "VHD"),
    (b"vhdxfile", "VHDX"),
    (b"LUKS\xba\xbe", "LUKS"),
    (b"SKUL\xba\xbe", "LUKS"),
    (b"WithoutFreeSpace", "Parallels"),
    (b"WithouFreSpacExt", "Parallels"),
    (b"Bochs Virtual HD Image", "Bochs"),
    (b"#!/bin/sh\n#V2.0 Format", "cloop"),
    (b"json:", "QEMU json: reference"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_AT_OFFSET: tuple[tuple[int, bytes, str], ...] = (
    (64, b"\x7f\x10\xda\xbe", "VDI"),
    (257, b"ustar", "tar"),
    (0x8001, b"CD001", "ISO 9660"),
    (0x8001, b"NSR0", "UDF"),
)
_IN_TAIL: tuple[tuple[bytes, str], ...] = ((b"conectix", "VHD"), (b"koly", "DMG"))
_DESCRIPTOR_MARKS = (b"createtype=", b"# disk descriptorfile")
_DESCRIPTOR_BYTES = 4096


def inspect(read: Reader, size_bytes: int, declared: ImageKind) -> Verdict:
    """Whether the file is of the declared kind and complete in itself."""
    if declared is ImageKind.QCOW2:
        return qcow2.inspect(read, size_bytes)
    if declared is ImageKind.KERNEL:
        return kernel_archive.inspect(read, size_bytes)
    found = foreign_format(read, size_bytes)
    if found:
        return Rejected(f"it was declared raw, but it looks like {found}")
    return Sound(gib_for(size_bytes))


def foreign_format(read: Reader, size_bytes: int) -> str:
    """The name of a format that is not a plain disk, or an empty string."""
    head = read(0, _HEAD_BYTES)
    for magic, name in _AT_START:
        if head.startswith(magic):
            return name
    for offset, magic, name in _AT_OFFSET:
        if head.startswith(magic, offset):
            return name
    # A VMDK descriptor may begin with blanks or comments; QEMU skips them.
    text = head[:_DESCRIPTOR_BYTES].lower()
    if any(mark in text for mark in _DESCRIPTOR_MARKS):
        return "VMDK descriptor"
    tail = read(max(0, size_bytes - _TAIL_BYTES), _TAIL_BYTES)
    for magic, name in _IN_TAIL:
        # The footer of old VHDs is one byte short of a sector.
        if tail.startswith(magic) or tail.startswith(magic, 1):
            return name
    return ""
