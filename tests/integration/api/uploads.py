"""Images for uploads, and the upload of one as a client does it."""

import hashlib
import io
import struct
import tarfile
from collections.abc import AsyncIterator
from typing import Any

from stead.v1 import image_pb2

from tests.integration.api.cloud import User, new_id

RAW = bytes(range(256)) * 4096


def kernel_archive(**files: bytes) -> bytes:
    """A USTAR archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (
            files or {"kernel": b"k" * 700, "initrd": b"i", "cmdline": b"a=b\n"}
        ).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def qcow2(size_bytes: int = 1 << 30, **changed: int) -> bytes:
    """The smallest file that passes for an empty qcow2 of version 3."""
    fields = {
        "magic": 0x514649FB, "version": 3, "backing_at": 0, "backing_bytes": 0, "cluster_bits": 16,
        "size": size_bytes, "crypt": 0, "l1_entries": 2, "l1_at": 0x30000, "refcount_at": 0x10000,
        "refcount_clusters": 1, "snapshots": 0, "snapshots_at": 0, "incompatible": 0,
        "compatible": 0, "autoclear": 0, "refcount_order": 4, "header_bytes": 104, **changed,
    }  # fmt: skip
    header = struct.pack(">IIQIIQIIQQIIQQQQII", *fields.values())
    return header.ljust(0x40000, b"\0")


def description(content: bytes, kind: int = image_pb2.IMAGE_KIND_RAW, **changed: Any) -> Any:
    return image_pb2.ImageDescription(
        **{
            "request_id": new_id(),
            "name": f"image-{new_id()}",
            "kind": kind,
            "architecture": image_pb2.ARCHITECTURE_X86_64,
            "digest": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            **changed,
        }
    )


async def parts(described: Any, content: bytes, piece_bytes: int = 65536) -> AsyncIterator[Any]:
    yield image_pb2.ImportImageRequest(description=described)
    for place in range(0, len(content), piece_bytes):
        yield image_pb2.ImportImageRequest(chunk=content[place : place + piece_bytes])


async def imported(user: User, content: bytes = RAW, **changed: Any) -> Any:
    answer = await user.ImportImage(parts(description(content, **changed), content))
    return answer.image
