"""The header of a qcow2 file. Refuses every file that refers to another one, or that we do not
fully know.

Source: QEMU's docs/interop/qcow2. Big-endian throughout.
"""

import struct
from dataclasses import dataclass

from services.api.logic.image_verdict import Reader, Rejected, Sound, Verdict, gib_for

MAGIC = b"QFI\xfb"
SIZE_BYTES_MAX = 1 << 50
L1_BYTES_MAX = 32 * 1024 * 1024
EXTENSIONS_MAX = 64

_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_V2_BYTES = 72
_V3_BYTES = 104

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2

_FORBIDDEN_EXTENSIONS = {
    0xE2792ACA: "it names the format of a backing file",
    0x44415441: "it names an external data file",
    0x0537BE77: "it is encrypted",
}
_CLUSTER_BITS = range(9, 22)


@dataclass(frozen=True, slots=True)
class Header:
    """The fields that decide."""

    version: int
    backing_file_offset: int
    backing_file_bytes: int
    cluster_bits: int
    size_bytes: int
    crypt_method: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    incompatible: int
    refcount_order: int
    header_bytes: int


def inspect(read: Reader, file_bytes: int) -> Verdict:
    """Sound with the size of its disk, or why not."""
    header = parse(read)
    if isinstance(header, Rejected):
        return header
    return (
        _refusal(header)
        or _refused_extension(read, header)
        or _refused_place(header, file_bytes)
        or Sound(gib_for(header.size_bytes))
    )


def parse(read: Reader) -> Header | Rejected:
    """The header of version 2 or 3."""
    head = read(0, _V3_BYTES)
    if head[:4] != MAGIC:
        return Rejected("it was declared qcow2, but does not begin with qcow2's magic number")
    if len(head) < _FIXED.size:
        return Rejected("its qcow2 header is cut off")
    (_, version, backing_at, backing_bytes, cluster_bits, size_bytes, crypt, l1_entries, l1_at,
     refcount_at, refcount_clusters, _, _) = _FIXED.unpack_from(head)  # fmt: skip
    incompatible, refcount_order, header_bytes = 0, 4, _V2_BYTES
    if version == 3:
        if len(head) < _V3_BYTES:
            return Rejected("its qcow2 header is cut off")
        incompatible, _, _, refcount_order, header_bytes = _V3.unpack_from(head, _V2_BYTES)
    elif version != 2:
        return Rejected(f"qcow2 of version {version} is not known; versions 2 and 3 are")
    return Header(
        version, backing_at, backing_bytes, cluster_bits, size_bytes, crypt, l1_entries, l1_at,
        refcount_at, refcount_clusters, incompatible, refcount_order, header_bytes,
    )  # fmt: skip


def _refusal(header: Header) -> Rejected | None:
    for wrong, why in (
        (header.backing_file_offset or header.backing_file_bytes, "it refers to a backing file"),
        (header.incompatible & _DATA_FILE, "it refers to an external data file"),
        (header.crypt_method, "it is encrypted"),
        (header.incompatible & _DIRTY, "it was not closed cleanly; repair it first"),
        (header.incompatible & _CORRUPT, "it is marked as corrupt; repair it first"),
        (header.incompatible & ~_KNOWN, "it uses incompatible features that are not known"),
        (header.cluster_bits not in _CLUSTER_BITS, "its cluster size is not valid"),
        (header.size_bytes == 0, "its disk has no size"),
        (header.size_bytes > SIZE_BYTES_MAX, "its disk is larger than 1 PiB"),
        (header.l1_entries * 8 > L1_BYTES_MAX, "its level 1 table is too large"),
        (header.refcount_order > 6, "its reference counts are too wide"),
    ):
        if wrong:
            return Rejected(why)
    if header.version == 3 and not _V3_BYTES <= header.header_bytes <= 1 << header.cluster_bits:
        return Rejected("the length of its header is not valid")
    return None


def _refused_extension(read: Reader, header: Header) -> Rejected | None:
    place = header.header_bytes
    for _ in range(EXTENSIONS_MAX):
        if place + _EXTENSION.size > 1 << header.cluster_bits:
            return None
        found = read(place, _EXTENSION.size)
        if len(found) < _EXTENSION.size:
            return Rejected("its header extensions are cut off")
        kind, length = _EXTENSION.unpack(found)
        if kind == 0:
            return None
        if kind in _FORBIDDEN_EXTENSIONS:
            return Rejected(_FORBIDDEN_EXTENSIONS[kind])
        place += _EXTENSION.size + -(-length // 8) * 8
        if place > 1 << header.cluster_bits:
            return Rejected("a header extension reaches beyond the header's cluster")
    return Rejected("it has too many header extensions")


def _refused_place(header: Header, file_bytes: int) -> Rejected | None:
    cluster_bytes = 1 << header.cluster_bits
    tables = (
        (header.l1_offset, header.l1_entries * 8, "level 1 table"),
        (header.refcount_offset, header.refcount_clusters * cluster_bytes, "reference count table"),
    )
    for offset, length, name in tables:
        if offset % cluster_bytes:
            return Rejected(f"its {name} is not aligned to a cluster")
        if offset + length > file_bytes:
            return Rejected(f"its {name} lies beyond the end of the file: the file is cut off")
    return None
