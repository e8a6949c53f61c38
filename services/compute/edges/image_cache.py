"""Images on this machine's disk: `<digest>`, verified, and `<digest>.part`, on their way.

A file is hashed while it is written and again when it is used after a restart, or when its size,
time or inode changed since it was verified; one that is not what its name says is removed. Does
not fetch.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from services.compute.flows.ports import StepFailed
from services.compute.logic.wanted import Image
from services.runtime.log import logger

READ_BYTES = 1024 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)

Mark = tuple[int, int, int]
Result = TypeVar("Result")


class ImageCache:
    """One folder of images. Remembers what it has verified since it was made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._verified: dict[str, Mark] = {}

    def known(self, image: Image) -> Path | None:
        """The file, if it was verified and has not changed since."""
        path = self._folder / image.digest
        verified = self._verified.get(image.digest)
        return path if verified is not None and verified == _mark(path) else None

    async def find(self, image: Image) -> Path | None:
        """The verified file, None if there is none; a corrupt one is removed."""
        path = self._folder / image.digest
        mark = _mark(path)
        if mark is None:
            return None
        if self._verified.get(image.digest) == mark:
            return path
        if await asyncio.to_thread(_digest_of, path) == image.digest:
            self._verified[image.digest] = mark
            return path
        logger().warning("cached image is corrupt", digest=image.digest)
        path.unlink(missing_ok=True)
        return None

    async def begin(self, image: Image) -> "ImageDraft":
        """Opens a draft that goes on where an interrupted one ended."""
        return await asyncio.to_thread(self._open_draft, image)

    def _open_draft(self, image: Image) -> "ImageDraft":
        path = self._folder / f"{image.digest}.part"
        file = path.open("a+b")
        file.seek(0)
        digest = hashlib.sha256()
        size_bytes = 0
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        return ImageDraft(self, image, file=file, digest=digest, size_bytes=size_bytes)

    def put(self, image: Image, part: Path) -> Path:
        """Gives a complete and verified file its name, durably."""
        path = self._folder / image.digest
        part.replace(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        mark = _mark(path)
        assert mark is not None
        self._verified[image.digest] = mark
        return path


class ImageDraft:
    """A file that is being filled, and the digest of what is in it."""

    def __init__(
        self,
        cache: ImageCache,
        image: Image,
        *,
        file: BinaryIO,
        digest: "hashlib._Hash",
        size_bytes: int,
    ) -> None:
        self.size_bytes = size_bytes
        self._cache = cache
        self._image = image
        self._file = file
        self._digest = digest
        self._busy = threading.Lock()

    async def append(self, chunk: bytes) -> None:
        """Adds the next bytes. Raises StepFailed (STORAGE_FULL); the draft is gone then."""
        await asyncio.to_thread(self._locked, self._append, chunk)

    async def finish(self) -> Path | None:
        """Puts the image in its place, or drops it and gives None if it is not as it should be."""
        return await asyncio.to_thread(self._locked, self._finish)

    async def close(self) -> None:
        """Lets go of the file; what is there is kept for a later draft."""
        # A cancelled append goes on in its thread; nobody may open the file before it has ended.
        await asyncio.shield(asyncio.to_thread(self._locked, self._close))

    def _locked(self, work: Callable[..., Result], *arguments: bytes) -> Result:
        with self._busy:
            return work(*arguments)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def _append(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError as error:
            raise self._failed(error) from error
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    def _finish(self) -> Path | None:
        part = Path(self._file.name)
        if (self.size_bytes, self._digest.hexdigest()) != (
            self._image.size_bytes,
            self._image.digest,
        ):
            part.unlink(missing_ok=True)
            return None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        return self._cache.put(self._image, part)

    def _failed(self, error: OSError) -> Exception:
        if error.errno not in FULL:
            return error
        Path(self._file.name).unlink(missing_ok=True)
        return StepFailed("STORAGE_FULL", "the host has no room left for the image")


def _mark(path: Path) -> Mark | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
