"""The image store: one directory, one file per image, named by the SHA-256 of its bytes.

Owns that a file stands under its name only whole, verified by its writer and durable; uploads lie
in `incoming/` until then and leave nothing behind, also after a crash. Does not own which images
there are: rows do.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from services.api.logic.image_verdict import Reader, Verdict
from services.domain.errors import CloudError, Invalid, NoCapacity, NotFound, Unavailable

PIECE_BYTES = 256 * 1024
BUFFER_BYTES = 1024 * 1024
LOCK = "lock"
LOCK_TRIES = 300
LOCK_PAUSE_S = 0.05

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ImageStore:
    """Implements `flows.ports.ImageStore` on a directory that replicas may share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        self._deleted = directory / "deleted"
        self._deleted.mkdir(mode=0o700, exist_ok=True)
        self._deciding = asyncio.Lock()
        self._sweep()

    def _sweep(self) -> None:
        """Removes what uploads left that no living process writes."""
        for path in self._incoming.iterdir():
            with path.open("rb") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def upload(self, size_bytes: int) -> AsyncIterator["Upload"]:
        """Begins an upload. Raises NoCapacity (STORAGE_FULL) where so much cannot fit."""
        upload = await asyncio.to_thread(self._begin, size_bytes)
        try:
            yield upload
        finally:
            upload.discard()

    def _begin(self, size_bytes: int) -> "Upload":
        with _room():
            room = os.statvfs(self._incoming)
            if size_bytes > room.f_bavail * room.f_frsize:
                raise storage_full()
            return Upload(self._directory, self._incoming / f"{secrets.token_hex(16)}.part")

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Holds off everyone else who decides what stays, also other replicas on the directory.

        Raises Unavailable (STORE_BUSY).
        """
        async with self._deciding:
            with (self._directory / LOCK).open("wb") as file:
                for _ in range(LOCK_TRIES):
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    await asyncio.sleep(LOCK_PAUSE_S)
                else:
                    raise Unavailable("STORE_BUSY", "the image store is busy; try again")
                yield

    async def remove(self, digest: str) -> None:
        """Removes a blob, if it is there, and then what was noted of it."""
        await asyncio.to_thread(self._path(digest).unlink, True)
        for note in self._notes(digest):
            note.unlink(missing_ok=True)

    async def older_than(self, age_s: float) -> list[str]:
        """The digests of the blobs that came more than so long ago, by this machine's clock."""
        came_before_s = time.time() - age_s
        return sorted(
            path.name
            for path in self._directory.iterdir()
            if _DIGEST.fullmatch(path.name) and path.stat().st_mtime < came_before_s
        )

    async def note_deleted(self, digest: str, image_id: str) -> None:
        """Remembers an image in an empty file `deleted/DIGEST.IMAGE`: needs no room of its own."""
        note = self._deleted / f"{self._path(digest).name}.{uuid.UUID(image_id)}"
        with _room():
            note.touch(mode=0o600)
            await asyncio.to_thread(_sync_folder, self._deleted)

    async def deleted_images(self, digest: str) -> list[str]:
        """The ids that were noted of a blob."""
        return [note.name.partition(".")[2] for note in self._notes(digest)]

    def _notes(self, digest: str) -> list[Path]:
        return sorted(self._deleted.glob(f"{self._path(digest).name}.*"))

    async def read(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """Pieces of at most 256 KiB. Raises NotFound (BLOB_NOT_FOUND), Invalid (INVALID_FIELD)."""
        try:
            file = await asyncio.to_thread(self._path(digest).open, "rb")
        except FileNotFoundError:
            raise NotFound("BLOB_NOT_FOUND", "there is no blob of this digest") from None
        with file:
            if not 0 <= offset <= os.fstat(file.fileno()).st_size:
                raise Invalid("INVALID_FIELD", "the offset lies outside the blob", field="offset")
            while piece := await asyncio.to_thread(os.pread, file.fileno(), PIECE_BYTES, offset):
                offset += len(piece)
                yield piece

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise Invalid("INVALID_FIELD", "a digest has 64 of 0-9 and a-f", field="digest")
        return self._directory / digest


class Upload:
    """One file in `incoming/`, locked while it is written so that no sweep takes it."""

    def __init__(self, directory: Path, path: Path) -> None:
        self._directory = directory
        self._path = path
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Appends. Raises NoCapacity (STORAGE_FULL)."""
        self._buffer += chunk
        if len(self._buffer) >= BUFFER_BYTES:
            await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        content, self._buffer = self._buffer, bytearray()
        self._sha256.update(content)
        rest = memoryview(content)
        with _room():
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    async def digest(self) -> str:
        """Lower-case hexadecimal SHA-256 of all that was written; it is on the disk then."""
        await asyncio.to_thread(self._flush)
        await asyncio.to_thread(self._sync)
        return self._sha256.hexdigest()

    async def inspect(self, look: Callable[[Reader], Verdict]) -> Verdict:
        """Looks at the file with a pure function."""

        def read(offset: int, length: int) -> bytes:
            return os.pread(self._descriptor, length, offset)

        return await asyncio.to_thread(look, read)

    async def keep(self, digest: str) -> bool:
        """Puts the file under its digest, durably; whether it was not there before. Raises
        NoCapacity.

        What stands there already is replaced: both were verified, and the older may have rotted.
        """
        return await asyncio.to_thread(self._keep, digest)

    def _keep(self, digest: str) -> bool:
        target = self._directory / digest
        with _room():
            is_new = not target.exists()
            self._path.replace(target)
            _sync_folder(self._directory)
        return is_new

    def _sync(self) -> None:
        with _room():
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """Lets go of the file, and removes it unless it was kept."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def storage_full() -> CloudError:
    """There is no room left for the image."""
    return NoCapacity("STORAGE_FULL", "the image store is full; delete images or give it more room")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise storage_full() from error
        raise
