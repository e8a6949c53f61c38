"""A database that was set back begins a new history; one that was not goes on in its own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.domain.errors import OutOfRange, Unavailable
from services.domain.kinds import ResourceKind
from tests.engines import PATIENCE_S, PG_BIN, Postgres, end, postgres
from tests.stores import CLOUD, create, once_back, refusals
from tests.unit.conductor.situations import instance

LEAP = 1 << 40


@pytest.fixture
async def primary(tmp_path: Path) -> AsyncIterator[Postgres]:
    """A server with three revisions in its own database."""
    with postgres(tmp_path / "a") as server:
        await migrate(server.url(), CLOUD)
        store = PostgresStore(server.url())
        assert refusals(await store.items_commit([create(instance("a"))])) == [""]
        await store.close()
        yield server


async def history_of(server: Postgres) -> tuple[str, int, int]:
    """History id, head and compaction revision, as a conductor finds them."""
    identity = await migrate(server.url(), CLOUD)
    store = PostgresStore(server.url(), history_id=identity.history_id)
    log = await store.changes_read(0, 1)
    await store.close()
    return identity.history_id, log.head_revision, log.compacted_revision


def _run(program: str, server: Postgres, given: bytes) -> bytes:
    argv = [str(PG_BIN / program), "-h", str(server.folder), "-U", "stead", "-d", "postgres"]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=PATIENCE_S, input=given)
    return done.stdout


async def test_a_restart_and_a_crash_go_on_in_the_same_history(primary: Postgres) -> None:
    """Nothing was set back."""
    before = await history_of(primary)
    assert before[1:] == (2, 0)
    primary.kill()
    primary.start()
    assert await history_of(primary) == before


async def test_a_promoted_copy_is_of_another_history(primary: Postgres, tmp_path: Path) -> None:
    """Its timeline tells. What was told of the old history is out of range; what is new stands far
    above all that the other may have told since. While it is a standby it is not used at all.
    """
    before = await history_of(primary)
    end(primary.process)
    shutil.copytree(tmp_path / "a" / "data", tmp_path / "b" / "data")
    (tmp_path / "b" / "data" / "standby.signal").touch()
    copy = Postgres(tmp_path / "b", primary.process)
    copy.start()
    try:
        standby = PostgresStore(copy.url())
        with pytest.raises(Unavailable):
            await standby.changes_read(0, 1)
        assert copy.sql("SELECT pg_promote(true, 60)") == "t"
        log = await once_back(lambda: standby.changes_read(0, 1))
        assert (log.head_revision, log.compacted_revision) == (2 + LEAP, 2 + LEAP)
        await standby.close()
        history, head, compacted = await history_of(copy)
        assert history != before[0]
        assert head == compacted == 2 + LEAP
        store = PostgresStore(copy.url())
        with pytest.raises(OutOfRange):
            await store.records_read(
                [Query(ResourceKind.INSTANCE, "", "p", "", 9, pinned_revision=2)]
            )
        assert refusals(await store.items_commit([create(instance("b"))])) == [""]
        log = await store.changes_read(head, 10)
        assert [one.revision for one in log.records] == [head + 1, head + 2]
        assert copy.sql("SELECT count(*) FROM change_rest") == "0"
        (page,) = await store.records_read([Query(ResourceKind.INSTANCE, "", "p", "", 9)])
        assert [one.revision for one in page.records] == [1, head + 1]
        await store.log_tend(0.0, 1 << 40)
        assert int(copy.sql("SELECT min(lower) FROM change_part")) == head + 1
        await store.close()
        assert (await history_of(copy))[0] == history
    finally:
        end(copy.process)


async def test_a_restored_dump_is_of_another_history(primary: Postgres, tmp_path: Path) -> None:
    """Its system tells."""
    before = await history_of(primary)
    dumped = _run("pg_dump", primary, b"")
    with postgres(tmp_path / "c") as other:
        _run("psql", other, dumped)
        history, head, _ = await history_of(other)
        assert history != before[0]
        assert head == before[1] + LEAP


async def test_several_conductors_leap_once(primary: Postgres) -> None:
    """Whoever comes first; all of them find the same history."""
    primary.sql("UPDATE cloud SET timeline = 99")
    stores = [PostgresStore(primary.url()) for _ in range(6)]
    logs = await asyncio.gather(*(store.changes_read(0, 1) for store in stores))
    assert {log.head_revision for log in logs} == {2 + LEAP}
    for store in stores:
        await store.close()


async def test_a_conductor_ends_when_its_history_does(primary: Postgres) -> None:
    """It commits nothing and reads nothing in another one: what it remembers is of the old."""
    before = await history_of(primary)
    told: list[str] = []
    store = PostgresStore(
        primary.url(), history_id=before[0], on_history=lambda: told.append("ended")
    )
    await store.changes_read(0, 1)
    primary.sql("UPDATE cloud SET timeline = 99")
    primary.kill()
    primary.start()
    for _ in range(2):
        with pytest.raises(Unavailable, match="history"):
            await store.items_commit([create(instance("b"))])
    assert told
    assert primary.sql("SELECT count(*) FROM instance") == "1"
    await store.close()
