"""Small certainties about files and ports: private, atomic, free, readable."""

import contextlib
import os
import socket
import sys
from pathlib import Path

from services.domain.errors import Invalid


def write_private(path: Path, text: str) -> None:
    """Writes a 0600 file at once or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has right now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """As many different ones."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def bytes_of(file: Path) -> bytes:
    """All that a file holds, or standard input for `-`. Raises Invalid (FILE_UNREADABLE)."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Invalid("FILE_UNREADABLE", f"{file}: {error.strerror}") from error
