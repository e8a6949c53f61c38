"""The file in which QEMU keeps what a guest wrote to its serial console.

A guest can write without end: what is older than the newest `KEPT_BYTES` is punched out of the
file, which leaves the offsets as they are.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from services.compute.flows.console_ports import ConsoleLog, ConsolePiece
from services.compute.flows.ports import StepFailed

KEPT_BYTES = 8 << 20
PUNCH_ABOVE_BYTES = 2 * KEPT_BYTES
BLOCK_BYTES = 512
# What is punched ends with a page: then every byte of a file is either kept or in a hole.
PAGE_BYTES = 4096
CALL_S = 20


def read_log(path: Path, max_bytes: int) -> ConsoleLog:
    """The newest bytes, at most `max_bytes` and at most what is kept."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            start = max(0, size - min(max_bytes, KEPT_BYTES))
            log.seek(start)
            return ConsoleLog(log.read(size - start), start)
    except FileNotFoundError:
        return ConsoleLog(b"", 0)


def read_from(path: Path, offset: int | None, max_bytes: int) -> ConsolePiece:
    """The bytes from `offset` on; None stands for the end. Raises StepFailed
    (CONSOLE_OFFSET_GONE) where they are not kept.
    """
    try:
        log = path.open("rb")
    except FileNotFoundError:
        if offset:
            raise _gone(offset) from None
        return ConsolePiece(b"", 0)
    with log:
        size = log.seek(0, os.SEEK_END)
        start = size if offset is None else offset
        if not 0 <= start <= size:
            raise _gone(start)
        log.seek(start)
        content = log.read(min(max_bytes, size - start))
        # Looked at afterwards: a hole may have come meanwhile.
        if content and not _is_kept(log.fileno(), start):
            raise _gone(start)
        return ConsolePiece(content, size)


def _is_kept(descriptor: int, offset: int) -> bool:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) == offset
    except OSError:
        return False


def _gone(offset: int) -> StepFailed:
    return StepFailed("CONSOLE_OFFSET_GONE", f"the console's bytes from {offset} on are not kept")


def let_go_of_old(path: Path) -> None:
    """Frees the disk under all but the newest bytes, where the file system can."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        if status.st_blocks * BLOCK_BYTES > PUNCH_ABOVE_BYTES:
            punch = ["fallocate", "--punch-hole", "--offset", "0"]
            old = (status.st_size - KEPT_BYTES) // PAGE_BYTES * PAGE_BYTES
            length = ["--length", str(old), "--", str(path)]
            subprocess.run(
                [*punch, *length],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CALL_S,
                check=False,
            )
