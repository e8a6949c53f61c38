"""The image store in memory: passes the same contract tests as the one in a directory.

Owns the bytes and notes that replicas share. A replica that dies lets go of what it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256

from services.api.edges.image_store import LOCK_PAUSE_S, LOCK_TRIES
from services.api.logic.image_verdict import Reader, Verdict
from services.domain.errors import Invalid, NotFound, Unavailable

PIECE_BYTES = 700


@dataclass(slots=True)
class Blobs:
    """What all replicas see: bytes by digest, when they came, which deleted images named them, and
    which replica decides.
    """

    contents: dict[str, bytes] = field(default_factory=dict)
    came_s: dict[str, float] = field(default_factory=dict)
    deleted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    held_by: MemoryImageStore | None = None
    now_s: Callable[[], float] = time.time


class MemoryImageStore:
    """One replica's store: implements `api.flows.ports.ImageStore`."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._deciding = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def upload(self, size_bytes: int) -> AsyncIterator[MemoryUpload]:
        await asyncio.sleep(0)
        yield MemoryUpload(self._blobs)

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._deciding:
            for _ in range(LOCK_TRIES):
                if self._blobs.held_by is None:
                    break
                await asyncio.sleep(LOCK_PAUSE_S)
            else:
                raise Unavailable("STORE_BUSY", "the image store is busy; try again")
            self._blobs.held_by = self
            try:
                yield
            finally:
                self.die()

    def die(self) -> None:
        """Lets go, as the end of a process does."""
        if self._blobs.held_by is self:
            self._blobs.held_by = None

    async def remove(self, digest: str) -> None:
        await asyncio.sleep(0)
        self._blobs.contents.pop(digest, None)
        self._blobs.deleted.pop(digest, None)

    async def older_than(self, age_s: float) -> list[str]:
        before_s = self._blobs.now_s() - age_s
        return sorted(d for d, came_s in self._blobs.came_s.items() if came_s < before_s)

    async def note_deleted(self, digest: str, image_id: str) -> None:
        await asyncio.sleep(0)
        self._blobs.deleted[digest].add(image_id)

    async def deleted_images(self, digest: str) -> list[str]:
        return sorted(self._blobs.deleted.get(digest, ()))

    async def read(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        content = self._blobs.contents.get(digest)
        if content is None:
            raise NotFound("BLOB_NOT_FOUND", "there is no blob of this digest")
        if not 0 <= offset <= len(content):
            raise Invalid("INVALID_FIELD", "the offset lies outside the blob", field="offset")
        for start in range(offset, len(content), PIECE_BYTES):
            await asyncio.sleep(0)
            yield content[start : start + PIECE_BYTES]


class MemoryUpload:
    """Bytes on their way in."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._content = b""

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self._content += chunk

    async def digest(self) -> str:
        await asyncio.sleep(0)
        return sha256(self._content).hexdigest()

    async def inspect(self, look: Callable[[Reader], Verdict]) -> Verdict:
        return look(lambda offset, length: self._content[offset : offset + length])

    async def keep(self, digest: str) -> bool:
        await asyncio.sleep(0)
        is_new = digest not in self._blobs.contents
        self._blobs.contents[digest] = self._content
        self._blobs.came_s[digest] = self._blobs.now_s()
        return is_new
