"""A database that an older stead has written becomes this release's, with its rows."""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from uuid import UUID

import asyncpg
import pytest

from services.conductor.edges.store.migrate import CREATE_TABLE, migrate, migrations
from services.conductor.logic.step_table import USUAL_DEADLINES
from services.domain.kinds import ClaimRole
from tests.engines import Postgres
from tests.stores import CLOUD

# The last migration of the release before operations had deadlines and claims a word on their disk.
OLDER = 6
LIVING, DELETING, DELETED = (str(UUID(int=n)) for n in (1, 2, 3))
UNDER_WAY, ENDED = (str(UUID(int=n)) for n in (11, 12))

ROWS = f"""
INSERT INTO host (id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib,
                  target_disk_gib, ceiling_vcpus, ceiling_memory_mib, ceiling_disk_gib, version,
                  revision, body)
VALUES ('h1', 'm', 'b', 1, 1, 8, 8, 8, 8, 8, 8, 1, 1, '');
INSERT INTO instance (id, project_id, name, state, task, power, host_id, flavor_id, image_id,
                      generation, epoch, attempt, excluded_host_ids, deleted, version, revision,
                      wanted, body)
VALUES ('{LIVING}', 'p', 'a', 3, 1, 1, 'h1', 'f', 'i', 1, 4, 1, '{{}}', false, 1, 4, '', ''),
       ('{DELETING}', 'p', 'b', 3, 4, 1, 'h1', 'f', 'i', 1, 5, 1, '{{}}', false, 1, 5, '', ''),
       ('{DELETED}', 'p', 'c', 6, 1, 1, '', 'f', 'i', 1, 6, 1, '{{}}', true, 1, 6, '', '');
INSERT INTO claim (instance_id, epoch, host_id, role, vcpus, memory_mib, disk_gib, wanted_revision)
VALUES ('{LIVING}', 4, 'h1', 1, 1, 1, 1, 4), ('{DELETING}', 5, 'h1', 1, 1, 1, 1, 5),
       ('{DELETED}', 6, 'h1', 3, 1, 1, 1, 6);
INSERT INTO operation (id, project_id, resource_id, action, state, phase, tries, finished,
                       look_again_at, created_at, version, revision, body)
VALUES ('{UNDER_WAY}', 'p', '{DELETING}', 2, 1, 1, 0, false, now(), now() - interval '1 day', 1, 7, ''),
       ('{ENDED}', 'p', '{LIVING}', 1, 3, 1, 0, true, now(), now() - interval '1 day', 1, 8, '');
UPDATE counter SET revision = 8;
"""  # noqa: E501  # rows are read in lines


@pytest.fixture
async def older(server: Postgres) -> str:
    """The address of a database of the older release, with rows in it."""
    name = "older"
    server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    server.sql(f"CREATE DATABASE {name}")
    connection = await asyncpg.connect(server.url(name))
    try:
        await connection.execute(CREATE_TABLE)
        for number, title, sql in migrations():
            if number <= OLDER:
                await connection.execute(sql)
                checksum = hashlib.sha256(sql.encode()).hexdigest()
                await connection.execute(
                    "INSERT INTO schema_migration VALUES ($1, $2, $3)", number, title, checksum
                )
        await connection.execute(ROWS)
    finally:
        await connection.close()
    return server.url(name)


async def test_what_was_under_way_gets_a_deadline_and_what_has_ended_is_not_written_again(
    older: str,
) -> None:
    """An old cloud's operations are many, and nearly all of them have ended."""
    connection = await asyncpg.connect(older)
    places = "SELECT ctid::text FROM operation WHERE id = $1"
    place = await connection.fetchval(places, ENDED)
    await migrate(older, CLOUD)
    assert await connection.fetchval(places, ENDED) == place
    left = "SELECT extract(epoch FROM deadline_at - now())::float8 FROM operation WHERE id = $1"
    assert max(astuple(USUAL_DEADLINES)) < await connection.fetchval(left, UNDER_WAY) < 5000
    await connection.close()


async def test_only_the_claims_of_what_is_deleted_may_lose_their_disk(older: str) -> None:
    """Before there was a word on it only a deleted instance's claim was on its way out."""
    await migrate(older, CLOUD)
    connection = await asyncpg.connect(older)
    rows = await connection.fetch("SELECT instance_id::text, role, discard FROM claim")
    await connection.close()
    assert {row["instance_id"]: row["discard"] for row in rows} == {
        LIVING: False,
        DELETING: True,
        DELETED: True,
    }
    assert {row["instance_id"]: ClaimRole(row["role"]) for row in rows} == {
        LIVING: ClaimRole.HOLDER,
        DELETING: ClaimRole.HOLDER,
        DELETED: ClaimRole.LEAVING,
    }


async def test_a_second_start_changes_nothing(older: str) -> None:
    """Each migration is applied once."""
    first = await migrate(older, CLOUD)
    assert await migrate(older, CLOUD) == first
