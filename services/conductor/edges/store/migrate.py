"""Numbered, forward-only SQL migrations, applied once each under an advisory lock, with their
checksums kept.
"""

import hashlib
from importlib import resources
from pathlib import PurePosixPath

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from services.conductor.edges.store.bounds import USUAL_BOUNDS
from services.conductor.flows.ports import CloudIdentity
from services.domain.errors import Broken

LOCK = 0x57EAD

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz
    NOT NULL DEFAULT now() )
"""

FOLLOW_HISTORY = "SELECT history FROM follow_history($1)"


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL) in order."""
    folder = resources.files("services.conductor") / "migrations"
    found = []
    for entry in folder.iterdir():
        if entry.name.endswith(".sql"):
            number = int(entry.name.split("_", 1)[0])
            found.append((number, PurePosixPath(entry.name).stem, entry.read_text()))
    return sorted(found)


async def migrate(url: str, cloud_id: str) -> CloudIdentity:
    """Brings the database to this release and claims it for the cloud.

    Raises Broken: SCHEMA_NEWER, SCHEMA_CHANGED (an applied file differs), CLOUD_MISMATCH.
    """
    connection = await asyncpg.connect(
        url, timeout=10, command_timeout=600, target_session_attrs=SessionAttribute.read_write
    )
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            await connection.execute(CREATE_TABLE)
            rows = await connection.fetch("SELECT number, checksum FROM schema_migration")
            applied = {row["number"]: row["checksum"] for row in rows}
            known = migrations()
            if applied and max(applied) > known[-1][0]:
                raise Broken("SCHEMA_NEWER", "the database was written by a newer stead")
            for number, name, sql in known:
                await _apply(connection, applied, (number, name, sql))
            return CloudIdentity(cloud_id, await _claim(connection, cloud_id))
    finally:
        connection.terminate()


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]",
    applied: dict[int, str],
    migration: tuple[int, str, str],
) -> None:
    number, name, sql = migration
    checksum = hashlib.sha256(sql.encode()).hexdigest()
    if number in applied:
        if applied[number] != checksum:
            raise Broken("SCHEMA_CHANGED", f"migration {name} differs from the one applied")
        return
    await connection.execute(sql)
    await connection.execute(
        "INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)",
        number,
        name,
        checksum,
    )


async def _claim(connection: "asyncpg.Connection[asyncpg.Record]", cloud_id: str) -> str:
    """The history that the database is of now; a new one where it was set back since."""
    await connection.execute(
        "INSERT INTO cloud (cloud_id, history_id) VALUES ($1, gen_random_uuid()::text)"
        " ON CONFLICT DO NOTHING",
        cloud_id,
    )
    owner = await connection.fetchval("SELECT cloud_id FROM cloud")
    if owner != cloud_id:
        raise Broken("CLOUD_MISMATCH", f"this database belongs to cloud {owner}, not {cloud_id}")
    return str(await connection.fetchval(FOLLOW_HISTORY, USUAL_BOUNDS.partition))
