"""The change log is kept at its size, dropped whole, and says from where it is whole."""

from __future__ import annotations

import asyncio
import itertools
import time

import asyncpg
import pytest

from services.conductor.edges.store.bounds import Bounds
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Committed, Item
from services.domain.errors import OutOfRange
from services.domain.kinds import ResourceKind
from tests.engines import Postgres
from tests.stores import create, flavor, new_database, refusals
from tests.unit.conductor.situations import instance

DAY_S, PLENTY = 86_400.0, 1 << 40
PARTS = "SELECT lower, upper FROM change_part ORDER BY lower"
REST = "SELECT count(*) FROM change_rest"


@pytest.fixture
async def narrow(server: Postgres) -> tuple[PostgresStore, str]:
    """A store whose log has partitions of ten revisions, and its database."""
    name = await new_database(server)
    # As if the log had begun with them.
    server.sql("DROP TABLE change_1, change_250001; DELETE FROM change_part", name)
    return PostgresStore(server.url(name), bounds=Bounds(partition=10)), name


async def commits(store: PostgresStore, count: int) -> None:
    """So many revisions."""
    for n in range(0, count, 5):
        names = [f"{time.monotonic_ns()}-{n}-{k}" for k in range(min(5, count - n))]
        assert not any(
            refusals(await store.items_commit([Item(entry=flavor(name)) for name in names]))
        )


async def tended(store: PostgresStore, count: int) -> None:
    """So many revisions, with the log tended in time."""
    for _ in range(0, count, 5):
        await store.log_tend(DAY_S, PLENTY)
        await commits(store, 5)


def parts(server: Postgres, name: str) -> list[list[int]]:
    """The bounds of the partitions, the first revision and the first behind."""
    return [[int(n) for n in line.split("|")] for line in server.sql(PARTS, name).splitlines()]


async def test_two_whole_partitions_are_always_ahead(
    narrow: tuple[PostgresStore, str], server: Postgres
) -> None:
    """Tended in time the default partition stays empty."""
    store, name = narrow
    for _ in range(5):
        await store.log_tend(DAY_S, PLENTY)
        head = (await store.changes_read(0, 1)).head_revision
        bounds = parts(server, name)
        assert all(one[1] == other[0] for one, other in itertools.pairwise(bounds))
        assert sum(lower > head for lower, _ in bounds) >= 2
        await commits(store, 17)
    assert server.sql(REST, name) == "0"
    assert len((await store.changes_read(0, 1000)).records) == 85
    await store.close()


async def test_nothing_is_lost_when_nobody_tends_the_log(
    narrow: tuple[PostgresStore, str], server: Postgres
) -> None:
    """What finds no partition goes to the default one, while others commit; and leaves from there
    with the rest.
    """
    store, name = narrow
    other = PostgresStore(server.url(name), bounds=Bounds(partition=10))
    await commits(store, 23)
    assert server.sql(REST, name) == "23"
    await asyncio.gather(commits(other, 60), store.log_tend(DAY_S, PLENTY), commits(store, 60))
    for _ in range(3):
        await store.log_tend(DAY_S, PLENTY)
        await commits(store, 10)
    log = await store.changes_read(0, 1000)
    assert [one.revision for one in log.records] == list(range(1, log.head_revision + 1))
    await store.log_tend(0.0, PLENTY)
    assert server.sql(REST, name) == "0"
    await other.close()
    await store.close()


async def test_what_is_too_old_is_dropped_whole_and_said(
    narrow: tuple[PostgresStore, str], server: Postgres
) -> None:
    """Only full partitions go; the log is whole above the compaction revision and gives nothing
    below it, neither do lists.
    """
    store, name = narrow
    await tended(store, 35)
    await store.log_tend(DAY_S, PLENTY)
    assert (await store.changes_read(0, 1)).compacted_revision == 0
    server.sql(
        "UPDATE change SET committed_at = now() - interval '2 days' WHERE revision < 21", name
    )
    await store.log_tend(DAY_S, PLENTY)
    log = await store.changes_read(20, 1000)
    assert (log.compacted_revision, log.head_revision) == (20, 35)
    assert [one.revision for one in log.records] == list(range(21, 36))
    log = await store.changes_read(19, 1000)
    assert (log.records, log.compacted_revision, log.head_revision) == ((), 20, 35)
    assert parts(server, name)[0][0] == 21
    with pytest.raises(OutOfRange, match="no longer kept"):
        await store.records_read([Query(ResourceKind.FLAVOR, "", "", "", 5, pinned_revision=19)])
    await store.close()


async def test_what_is_too_much_is_dropped_however_young(
    narrow: tuple[PostgresStore, str], server: Postgres
) -> None:
    """The present partition stays, however large."""
    store, name = narrow
    await tended(store, 35)
    await store.log_tend(DAY_S, PLENTY)
    size = int(server.sql("SELECT sum(pg_total_relation_size('change_' || lower)) FROM change_part",
                          name))  # fmt: skip
    await store.log_tend(DAY_S, size - 1)
    assert (await store.changes_read(0, 1)).compacted_revision == 10
    await store.log_tend(DAY_S, 1)
    assert (await store.changes_read(0, 1)).compacted_revision == 30
    assert len((await store.changes_read(30, 100)).records) == 5
    await store.close()


async def test_the_compaction_revision_is_committed_before_anything_is_dropped(
    narrow: tuple[PostgresStore, str], server: Postgres
) -> None:
    """While somebody reads the log it is not dropped, nor do commits wait for that reader; who
    asks is told already.
    """
    store, name = narrow
    await tended(store, 25)
    reader = await asyncpg.connect(server.url(name))
    async with reader.transaction():
        await reader.fetch("SELECT * FROM change LIMIT 1")
        await store.log_tend(0.0, PLENTY)
        assert parts(server, name)[0][0] == 1
        assert (await store.changes_read(0, 1)).compacted_revision == 20
        assert (await store.changes_read(15, 100)).records == ()
        assert len((await store.changes_read(20, 100)).records) == 5
        await commits(store, 5)
    await store.log_tend(0.0, PLENTY)
    assert parts(server, name)[0][0] == 31
    await reader.close()
    await store.close()


async def test_two_conductors_tend_one_log(
    narrow: tuple[PostgresStore, str], server: Postgres
) -> None:
    """At once, while both commit."""
    store, name = narrow
    other = PostgresStore(server.url(name), bounds=Bounds(partition=10))
    for _ in range(4):
        await asyncio.gather(
            store.log_tend(0.0, PLENTY), commits(other, 15),
            other.log_tend(0.0, PLENTY), commits(store, 15),
        )  # fmt: skip
    log = await store.changes_read((await store.changes_read(0, 1)).compacted_revision, 1000)
    assert log.head_revision == 120
    assert [r.revision for r in log.records] == list(range(log.compacted_revision + 1, 121))
    await other.close()
    await store.close()


async def test_operations_under_way_are_counted(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """By what they do and where they are, with the age of the oldest."""
    assert await store.operations_count() == []
    outcomes = await store.items_commit([create(instance(n)) for n in "abc"])
    assert all(isinstance(one, Committed) for one in outcomes)
    server.sql("UPDATE operation SET created_at = now() - interval '1 hour' WHERE id ="
               " (SELECT min(id::text)::uuid FROM operation)", database)  # fmt: skip
    (count,) = await store.operations_count()
    assert (count.action.name, count.state.name, count.phase.name, count.count) == (
        "CREATE_INSTANCE",
        "RUNNING",
        "PLACING",
        3,
    )
    assert 3600 <= count.oldest_s < 3700
