"""A cloud grows from nothing: plans that were made while its tables were empty, and before anybody
counted what is in them, read a few rows per commit when there are thousands.
"""

from __future__ import annotations

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import InstanceRow
from services.domain.instance import Power
from services.domain.resources import Resources
from tests.integration.conductor.conftest import Place
from tests.stores import claim_all, create, host, refusals
from tests.unit.conductor.situations import instance

INSTANCES, BATCH, LIVES = 3_000, 250, 10
ROWS_PER_LIFE_MAX = 200
UNCOUNTED = "; ".join(
    f"ALTER TABLE {table} SET (autovacuum_enabled = false)"
    for table in (
        "instance", "operation", "claim", "host", "change_1", "request", "catalog", "project"
    )
)  # fmt: skip
ROWS_READ = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_user_tables
"""


async def live(store: PostgresStore, row: InstanceRow) -> None:
    """One instance, created, placed, running and gone."""
    assert refusals(await store.items_commit([create(row)])) == [""]
    assert refusals(await claim_all(store, [row])) == [""]
    for sequence, power, absent in ((1, Power.RUNNING, False), (2, Power.OFF, True)):
        situation = (await store.situations_read([row.id]))[row.id]
        assert situation.holder is not None
        seen = Seen(row.id, situation.holder.epoch, "h1", 1, sequence, 1, power, absent=absent)
        item = lifecycle.observed(situation, seen, 3.0)
        assert refusals(await store.items_commit([item])) == [""]


async def rows_read(place: Place) -> int:
    """Rows that the store's sessions have read so far."""
    for session in (place.store._commits, place.store._reads):
        await session.run(lambda c: c.fetchval("SELECT pg_stat_force_next_flush()"))
    return int(place.sql(ROWS_READ).splitlines()[-1])


async def test_what_a_life_reads_does_not_grow_with_the_cloud(place: Place) -> None:
    place.sql(UNCOUNTED)
    await place.store.items_commit([Item(host=host(target=Resources(10**6, 10**9, 10**7)))])
    for n in range(LIVES):
        await live(place.store, instance(f"first{n}"))
    for start in range(0, INSTANCES, BATCH):
        rows = [instance(f"n{n}") for n in range(start, start + BATCH)]
        assert refusals(await place.store.items_commit([create(r) for r in rows])) == [""] * BATCH
    before = await rows_read(place)
    for n in range(LIVES):
        await live(place.store, instance(f"last{n}"))
    assert (await rows_read(place) - before) / LIVES < ROWS_PER_LIFE_MAX


HOT = """
SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
 WHERE relname IN ('instance', 'claim', 'host', 'project', 'counter') ORDER BY relname
"""


async def test_a_normal_step_changes_no_index(place: Place) -> None:
    """No index is on a column that one changes, names included: most versions stay in their page.
    MECHANICS A6.
    """
    place.sql(UNCOUNTED)
    await place.store.items_commit([Item(host=host(target=Resources(10**6, 10**9, 10**7)))])
    for n in range(LIVES):
        await live(place.store, instance(f"n{n}"))
    await rows_read(place)
    lines = place.sql(HOT).splitlines()
    assert [line.partition("|")[0] for line in lines] == [
        "claim", "counter", "host", "instance", "project",
    ]  # fmt: skip
    for line in lines:
        name, updated, hot = line.split("|")
        assert int(updated) >= LIVES - 1, name
        assert int(hot) > int(updated) / 2, line
