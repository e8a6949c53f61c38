"""Images as strangers send them: what comes in, what is refused and why, and that nothing makes us
stumble.
"""

import io
import struct
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.logic import kernel_archive, qcow2
from services.api.logic.image_format import inspect
from services.api.logic.image_verdict import Rejected, Sound, Verdict
from services.domain.kinds import ImageKind
from tests.examples import examples

RAW, QCOW2, KERNEL = ImageKind.RAW, ImageKind.QCOW2, ImageKind.KERNEL
GIB = 1 << 30
PAX = tarfile.PAX_FORMAT


def looked_at(content: bytes, kind: ImageKind) -> Verdict:
    reads = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 100
        assert offset >= 0
        return content[offset : offset + length]

    return inspect(read, len(content), kind)


def why(content: bytes, kind: ImageKind) -> str:
    verdict = looked_at(content, kind)
    assert isinstance(verdict, Rejected)
    return verdict.why


def a_qcow2(
    extensions: bytes = b"", length: int = 0x40000, version: int = 3, **changed: int
) -> bytes:
    fields = {
        "magic": 0x514649FB, "version": version, "backing_at": 0, "backing_bytes": 0,
        "cluster_bits": 16, "size": GIB, "crypt": 0, "l1_entries": 2, "l1_at": 0x30000,
        "refcount_at": 0x10000, "refcount_clusters": 1, "snapshots": 0, "snapshots_at": 0,
        "incompatible": 0, "compatible": 0, "autoclear": 0, "refcount_order": 4,
        "header_bytes": 104, **changed,
    }  # fmt: skip
    header = struct.pack(">IIQIIQIIQQIIQQQQII", *fields.values())
    if version == 2:
        header = header[:72]
    return (header + extensions).ljust(length, b"\0")[:length]


def extension(kind: int, content: bytes) -> bytes:
    padding = -len(content) % 8
    return struct.pack(">II", kind, len(content)) + content + bytes(padding)


def an_archive(*entries: tuple[str, bytes], **changed: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=changed.pop("format", tarfile.USTAR_FORMAT)
    ) as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for field, value in changed.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


PARTS = (("kernel", b"k" * 1000), ("initrd", b"i" * 513), ("cmdline", b"console=ttyS0\n"))


@pytest.mark.parametrize(
    ("content", "kind", "gib"),
    [
        (b"\x00" * 4096, RAW, 1),
        (b"\xeb\x63\x90" + b"\x00" * 507 + b"\x55\xaa", RAW, 1),
        (a_qcow2(), QCOW2, 1),
        (a_qcow2(version=2), QCOW2, 1),
        (a_qcow2(size=GIB + 1), QCOW2, 2),
        (a_qcow2(incompatible=0b11000), QCOW2, 1),
        (a_qcow2(extension(0x6803F857, b"names" * 9) + extension(0, b"")), QCOW2, 1),
        (an_archive(*PARTS), KERNEL, 0),
        (an_archive(*reversed(PARTS)), KERNEL, 0),
        (an_archive(*PARTS)[:4608], KERNEL, 0),
    ],
)
def test_sound_images_come_in(content: bytes, kind: ImageKind, gib: int) -> None:
    assert looked_at(content, kind) == Sound(gib)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (a_qcow2(backing_at=104, backing_bytes=11), "backing file"),
        (a_qcow2(backing_bytes=11), "backing file"),
        (a_qcow2(backing_at=1), "backing file"),
        (a_qcow2(incompatible=0b100), "external data file"),
        (a_qcow2(extension(0x44415441, b"/etc/shadow")), "external data file"),
        (a_qcow2(extension(0xE2792ACA, b"raw")), "backing file"),
        (a_qcow2(extension(0x6803F857, b"x") + extension(0x44415441, b"x")), "data file"),
        (a_qcow2(extension(0x44415441, b"x"), version=2), "data file"),
        (a_qcow2(crypt=1), "encrypted"),
        (a_qcow2(crypt=2), "encrypted"),
        (a_qcow2(extension(0x0537BE77, b"\0" * 16)), "encrypted"),
        (a_qcow2(incompatible=1), "closed cleanly"),
        (a_qcow2(incompatible=2), "corrupt"),
        (a_qcow2(incompatible=0b100000), "not known"),
        (a_qcow2(incompatible=1 << 63), "not known"),
        (a_qcow2(version=1), "version 1"),
        (a_qcow2(version=4), "version 4"),
        (a_qcow2(cluster_bits=8), "cluster size"),
        (a_qcow2(cluster_bits=63), "cluster size"),
        (a_qcow2(size=0), "no size"),
        (a_qcow2(size=1 << 62), "1 PiB"),
        (a_qcow2(l1_entries=0xFFFFFFFF), "level 1 table"),
        (a_qcow2(l1_at=0x30001), "aligned"),
        (a_qcow2(l1_at=1 << 40), "beyond the end"),
        (a_qcow2(refcount_at=1 << 62), "beyond the end"),
        (a_qcow2(refcount_clusters=0xFFFFFFFF), "beyond the end"),
        (a_qcow2(refcount_order=63), "reference counts"),
        (a_qcow2(header_bytes=0), "length of its header"),
        (a_qcow2(header_bytes=0xFFFFFFFF), "length of its header"),
        (a_qcow2(extension(0x6803F857, b"")[:4] + b"\xff\xff\xff\xff"), "beyond the header"),
        (a_qcow2(extension(0x23852875, b"") * 100), "too many"),
        (a_qcow2(length=0x30000), "cut off"),
        (a_qcow2(length=105), "cut off"),
        (a_qcow2(length=80), "cut off"),
        (a_qcow2(length=5), "cut off"),
        (b"", "magic number"),
        (b"\x00" * 4096, "magic number"),
        (an_archive(*PARTS), "magic number"),
    ],
)
def test_a_qcow2_that_refers_to_others_or_is_not_understood_is_refused(
    content: bytes, word: str
) -> None:
    assert word in why(content, QCOW2)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (a_qcow2(), "qcow2"),
        (a_qcow2(version=1), "qcow2"),
        (a_qcow2(backing_at=104, backing_bytes=11), "qcow2"),
        (b"QED\x00" + bytes(600), "QED"),
        (b"KDMV" + bytes(600), "VMDK"),
        (b"COWD" + bytes(600), "VMDK"),
        (b"# Disk DescriptorFile\nversion=1\n", "VMDK"),
        (
            b'\n\n# disk descriptorfile\ncreateType="monolithicFlat"\nRW 1 FLAT "/etc/shadow" 0',
            "VMDK",
        ),
        (b'version=1\nCreateType="x"\n' + bytes(600), "VMDK"),
        (b"conectix" + bytes(600), "VHD"),
        (bytes(4096) + b"conectix" + bytes(504), "VHD"),
        (bytes(4096) + b"conectix" + bytes(503), "VHD"),
        (b"vhdxfile" + bytes(600), "VHDX"),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(600), "VDI"),
        (b"LUKS\xba\xbe\x00\x02" + bytes(600), "LUKS"),
        (b"WithoutFreeSpace" + bytes(600), "Parallels"),
        (b"Bochs Virtual HD Image" + bytes(600), "Bochs"),
        (bytes(4096) + b"koly" + bytes(508), "DMG"),
        (bytes(0x8001) + b"CD001" + bytes(600), "ISO"),
        (b"\xeb\x63" + bytes(0x7FFF) + b"CD001" + bytes(600), "ISO"),
        (b'json:{"driver": "file", "filename": "/etc/shadow"}', "json"),
        (b"\x1f\x8b\x08" + bytes(600), "gzip"),
        (b"\xfd7zXZ\x00" + bytes(600), "xz"),
        (b"PK\x03\x04" + bytes(600), "zip"),
        (an_archive(*PARTS), "tar"),
    ],
)
def test_what_is_declared_raw_but_is_something_else_is_refused(content: bytes, word: str) -> None:
    assert word in why(content, RAW)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (an_archive(*PARTS[:2]), "lacks cmdline"),
        (an_archive(), "lacks cmdline and initrd and kernel"),
        (an_archive(*PARTS, ("more", b"x")), "something else"),
        (an_archive(PARTS[0], PARTS[0]), "twice"),
        (an_archive(("../kernel", b"x")), "something else"),
        (an_archive(("/kernel", b"x")), "something else"),
        (an_archive(("./kernel", b"x")), "something else"),
        (an_archive(("boot/kernel", b"x")), "something else"),
        (an_archive(("k" * 150 + "/kernel", b"x")), "something else"),
        (an_archive(("kernel", b""), type=tarfile.SYMTYPE, linkname="/etc/shadow"), "regular"),
        (an_archive(("kernel", b""), type=tarfile.LNKTYPE, linkname="initrd"), "regular"),
        (an_archive(("kernel", b""), type=tarfile.DIRTYPE), "something else"),
        (an_archive(("kernel", b""), type=tarfile.CHRTYPE), "regular"),
        (an_archive(("kernel", b""), type=tarfile.FIFOTYPE), "regular"),
        (an_archive(("kernel", b"x"), type=b"S"), "regular"),
        (an_archive(("kernel", b"")), "1 to"),
        (an_archive(*PARTS[:2], ("cmdline", b"x" * 4097)), "1 to 4096"),
        (an_archive(*PARTS[:2], ("cmdline", b"a\nb\n")), "printable"),
        (an_archive(*PARTS[:2], ("cmdline", b"a\x00b")), "printable"),
        (an_archive(*PARTS[:2], ("cmdline", "ä".encode())), "printable"),
        (an_archive(("kernel", b"x"), pax_headers={"path": "x"}, format=PAX), "something else"),
        (an_archive(*PARTS) + b"\x00" * 70000, "follows"),
        (an_archive(*PARTS) + b"x", "follows"),
        (an_archive(*PARTS)[:1200], "cut off"),
        (an_archive(*PARTS)[:100], "cut off"),
        (b"", "cut off"),
        (a_qcow2(), "not a USTAR"),
        (b"\x00" * 4096, "lacks"),
    ],
)  # fmt: skip
def test_an_archive_that_holds_anything_else_is_refused(content: bytes, word: str) -> None:
    assert word in why(content, KERNEL)


def test_a_changed_header_of_an_archive_is_refused() -> None:
    content = bytearray(an_archive(*PARTS))
    content[100] ^= 1
    assert "checksum" in why(bytes(content), KERNEL)
    content = bytearray(an_archive(*PARTS))
    content[124:136] = b"\x80" + b"\xff" * 11
    content[148:156] = b"%06o\0 " % (sum(content[:148]) + 256 + sum(content[156:512]))
    assert "1 to" in why(bytes(content), KERNEL)


@settings(max_examples=examples(400), deadline=None)
@given(st.binary(max_size=2048), st.sampled_from(list(ImageKind)), st.data())
def test_no_bytes_make_an_inspector_fail(
    content: bytes, kind: ImageKind, data: st.DataObject
) -> None:
    """Random bytes, and sound files with random bytes laid over them: always a verdict."""
    sound = {RAW: bytes(1024), QCOW2: a_qcow2(length=0x31000), KERNEL: an_archive(*PARTS)}[kind]
    place = data.draw(st.integers(0, 600))
    spoilt = sound[:place] + content[:40] + sound[place + len(content[:40]) :]
    for candidate in (content, spoilt, spoilt[: data.draw(st.integers(0, 4096))]):
        assert isinstance(looked_at(candidate, kind), Sound | Rejected)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "backing_at": st.integers(0, 2**64 - 1),
            "backing_bytes": st.integers(0, 2**32 - 1),
            "crypt": st.integers(0, 2**32 - 1),
            "incompatible": st.integers(0, 2**64 - 1),
            "size": st.integers(0, 2**64 - 1),
            "cluster_bits": st.integers(0, 2**32 - 1),
            "header_bytes": st.integers(0, 2**32 - 1),
        },
    )
)
def test_no_header_that_comes_in_refers_to_another_file(changed: dict[str, int]) -> None:
    content = a_qcow2(**changed)
    if isinstance(looked_at(content, QCOW2), Sound):
        header = qcow2.parse(lambda offset, length: content[offset : offset + length])
        assert isinstance(header, qcow2.Header)
        assert header.backing_file_offset == header.backing_file_bytes == header.crypt_method == 0
        assert header.incompatible & ~0b11000 == 0
        assert 0 < header.size_bytes <= qcow2.SIZE_BYTES_MAX


def test_an_archive_is_read_by_its_headers_alone() -> None:
    """A kernel may be large: no more of it is read than its headers and the command line."""
    content = an_archive(("kernel", b"k" * 5_000_000), *PARTS[1:])
    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return content[offset : offset + length]

    assert kernel_archive.inspect(read, len(content)) == Sound(0)
    assert sum(asked) < 100_000
