"""The embedded NATS server: its settings file, its credential, its unit."""

import asyncio
import json
import secrets
import shutil
import sys
from pathlib import Path

from services.cli.edges.files import free_port, write_private
from services.cli.logic.home import Home
from services.cli.logic.units import Probe, Unit
from services.domain.errors import Unavailable

USER = "stead"


def nats_server() -> str:
    """The path of nats-server: beside this Python, else on PATH. Raises Unavailable."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise Unavailable(
            "ENGINE_MISSING", "nats-server is not installed: run `make setup`, or use --nats URL"
        )
    return found


def prepare(home: Home) -> Unit:
    """Writes settings and credential for a free loopback port and gives the unit."""
    port = free_port()
    password = secrets.token_urlsafe(32)
    write_private(home.nats_credential_file, f"{USER}:{password}\n")
    write_private(home.nats_config_file, settings(port, password))
    return Unit(
        name="nats",
        argv=(nats_server(), "-c", str(home.nats_config_file)),
        probe=Probe.NATS,
        endpoint=f"nats://127.0.0.1:{port}",
        ends_in=2,
    )


def settings(port: int, password: str) -> str:
    """nats.conf: loopback only, one credential, dead clients noticed within seconds."""
    return (
        f"host: 127.0.0.1\nport: {port}\n"
        'ping_interval: "5s"\nping_max: 2\nwrite_deadline: "5s"\nmax_payload: 1048576\n'
        f"authorization {{ user: {json.dumps(USER)}, password: {json.dumps(password)} }}\n"
    )


async def is_ready(endpoint: str) -> bool:
    """Whether a NATS server greets at `nats://HOST:PORT`."""
    host, _, port = endpoint.removeprefix("nats://").rpartition(":")
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
    except (OSError, TimeoutError):
        return False
    try:
        return (await asyncio.wait_for(reader.readline(), 2)).startswith(b"INFO ")
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
