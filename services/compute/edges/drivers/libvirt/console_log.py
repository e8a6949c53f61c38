"""The file in which QEMU keeps what a guest wrote to its serial console.

A guest can write without end: what is older than the newest `KEPT_BYTES` is punched out of the
file, which leaves the offsets as they are.
"""

import contextlib
import subprocess
from pathlib import Path

from services.compute.flows.ports import ConsoleLog

KEPT_BYTES = 8 << 20
PUNCH_ABOVE_BYTES = 2 * KEPT_BYTES
BLOCK_BYTES = 512
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


def let_go_of_old(path: Path) -> None:
    """Frees the disk under all but the newest bytes, where the file system can."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        if status.st_blocks * BLOCK_BYTES > PUNCH_ABOVE_BYTES:
            punch = ["fallocate", "--punch-hole", "--offset", "0"]
            length = ["--length", str(status.st_size - KEPT_BYTES), "--", str(path)]
            subprocess.run(
                [*punch, *length],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CALL_S,
                check=False,
            )
