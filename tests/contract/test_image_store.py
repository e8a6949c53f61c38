"""Every image store: bytes stand under their digest whole or not at all, and whoever decides what
stays is alone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from services.api.edges.image_store import ImageStore as DirectoryStore
from services.api.flows.ports import ImageStore
from services.api.logic.image_verdict import Reader, Sound
from services.domain.errors import Invalid, NotFound
from tests.fakes.image_store import Blobs, MemoryImageStore

CONTENT = bytes(range(256)) * 20
DIGEST = sha256(CONTENT).hexdigest()
ABSENT = sha256(b"").hexdigest()


@pytest.fixture(params=["directory", "memory"])
def replica(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ImageStore]:
    """Makes the store of one replica after the other, over the same bytes."""
    blobs = Blobs()
    if request.param == "memory":
        return lambda: MemoryImageStore(blobs)
    return lambda: DirectoryStore(tmp_path / "images")


async def put(store: ImageStore) -> bool:
    async with store.upload(len(CONTENT)) as upload:
        await upload.write(CONTENT[:700])
        await upload.write(CONTENT[700:])
        return await upload.keep(await upload.digest())


async def read(store: ImageStore, offset: int = 0, digest: str = DIGEST) -> bytes:
    return b"".join([piece async for piece in store.read(digest, offset)])


async def test_what_is_kept_is_read_by_every_replica_from_any_offset(
    replica: Callable[[], ImageStore],
) -> None:
    """The first to keep it is told that it was new."""
    one, other = replica(), replica()
    assert await put(one)
    assert not await put(other)
    assert await read(other) == CONTENT
    assert await read(one, 701) == CONTENT[701:]
    assert await read(one, len(CONTENT)) == b""
    for offset in (-1, len(CONTENT) + 1):
        with pytest.raises(Invalid):
            await read(one, offset)
    assert await one.older_than(-60.0) == [DIGEST]
    assert await one.older_than(60.0) == []


async def test_nothing_is_left_of_an_upload_that_is_not_kept(
    replica: Callable[[], ImageStore],
) -> None:
    """Its bytes can be hashed and looked at before."""
    store = replica()
    seen: list[bytes] = []

    def look(read_at: Reader) -> Sound:
        seen.append(read_at(254, 4))
        return Sound(1)

    async with store.upload(len(CONTENT)) as upload:
        await upload.write(CONTENT)
        assert await upload.digest() == DIGEST
        assert await upload.inspect(look) == Sound(1)
    assert seen == [b"\xfe\xff\x00\x01"]
    with pytest.raises(NotFound):
        await read(store)


async def test_what_is_removed_is_gone_with_its_notes(
    replica: Callable[[], ImageStore],
) -> None:
    """Removing what is not there is nothing."""
    store, one, two = replica(), *sorted(str(uuid.uuid4()) for _ in range(2))
    await put(store)
    for image_id in (two, one, one):
        await store.note_deleted(DIGEST, image_id)
    assert await replica().deleted_images(DIGEST) == [one, two]
    assert await store.deleted_images(ABSENT) == []
    await store.remove(ABSENT)
    await store.remove(DIGEST)
    assert await store.deleted_images(DIGEST) == []
    with pytest.raises(NotFound):
        await read(store)


async def test_whoever_decides_is_alone_among_all_replicas(
    replica: Callable[[], ImageStore],
) -> None:
    """Another waits until it is done, in the same replica and in others."""
    one, told = replica(), list[str]()

    async def decide(store: ImageStore, name: str) -> None:
        async with store.alone():
            told.append(name)
            await asyncio.sleep(0.1)
            told.append(name)

    await asyncio.gather(decide(one, "a"), decide(one, "b"), decide(replica(), "c"))
    assert sorted(told[::2]) == ["a", "b", "c"]
    assert told[::2] == told[1::2]
