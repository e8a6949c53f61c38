"""What one bad, late or doubled item may do to the others of its batch: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.conductor.edges.store import codec
from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.edges.store.session import READS, WRITES, Session
from services.conductor.flows.ports import Query
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Committed, Item, Outcome
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import FlavorRow
from services.domain.condition import Condition
from services.domain.errors import CloudError, Invalid, NoCapacity, Unavailable
from services.domain.instance import Power
from services.domain.kinds import ResourceKind
from services.domain.resources import Resources
from services.runtime.ids import new_id
from tests.engines import postgres
from tests.integration.conductor.conftest import Place
from tests.stores import CLOUD, claim_all, create, host, once_back, refusals
from tests.unit.conductor.situations import instance


async def test_a_record_is_told_with_its_own_body(place: Place) -> None:
    """Also where a later item of the batch wrote the same row and was refused: the feed never says
    what was not committed.
    """
    row = instance()
    await place.store.items_commit([create(row)])
    known = (await place.store.situations_read([row.id]))[row.id].instance
    wins, loses = replace(known, power=Power.RUNNING), replace(known, power=Power.CRASHED)
    outcome, refused = await place.store.items_commit([Item(instance=wins), Item(instance=loses)])
    assert refusals([outcome, refused]) == ["", "STALE"]
    assert isinstance(outcome, Committed)
    logged = await place.store.changes_read(outcome.records[0].revision - 1, 1)
    assert list(outcome.records) == list(logged.records)


@pytest.mark.parametrize("bad", ["name\0", "name\ud800"])
async def test_a_value_that_no_row_can_hold_fails_alone(place: Place, bad: str) -> None:
    """Its neighbours commit, in one go but for the halves that hold it."""
    items = [create(instance(f"n{n}")) for n in range(6)]
    broken = host(bad) if "\0" in bad else replace(host("h9"), machine_id=bad)
    outcomes = await place.store.items_commit([*items[:4], Item(host=broken), *items[4:]])
    assert refusals(outcomes) == ["", "", "", "", "MALFORMED", "", ""]
    log = await place.store.changes_read(0, 100)
    assert [r.revision for r in log.records] == list(range(1, log.head_revision + 1))


async def test_an_id_that_is_none_is_of_no_row(place: Place) -> None:
    """It does not fail the questions that travel with it."""
    row = instance()
    await place.store.items_commit([create(row)])
    assert set(await place.store.situations_read(["nonsense", row.id, "x\0"])) == {row.id}
    assert await place.store.catalog_read([(ResourceKind.FLAVOR, "nonsense")]) == {}
    with pytest.raises(Invalid):
        await place.store.records_read([Query(ResourceKind.INSTANCE, "nonsense", "", "", 1)])
    for field, value in (("state", "x"), ("state", "99999999"), ("name", "\0"), ("digest", "x")):
        query = Query(ResourceKind.INSTANCE, "", "p", "", 9, (Condition(field, (value,)),))
        with pytest.raises(Invalid) as refused:
            await place.store.records_read([query])
        assert refused.value.reason == "FILTER_INVALID"


async def test_an_old_agent_is_told_so_even_about_claims_that_are_gone(place: Place) -> None:
    """SUPERSEDED, so that it ends; NO_SUCH_CLAIM would let it go on."""
    store = place.store
    await store.items_commit([Item(host=host())])
    row = instance()
    await store.items_commit([create(row)])
    await claim_all(store, [row])
    situation = (await store.situations_read([row.id]))[row.id]
    await store.items_commit([Item(host=host(seen=1))])
    seen = Seen(row.id, 999, "h1", 1, 5, 0, Power.OFF, True)
    item = lifecycle.observed(situation, seen, 1.0)
    assert refusals(await store.items_commit([item])) == ["SUPERSEDED"]


@given(st.integers(min_value=1_500_000_000_000_000, max_value=2_500_000_000_000_000))
@example(2_147_483_987_551_697)
def test_a_time_that_is_read_and_written_again_is_the_same(at_us: int) -> None:
    """create_time never changes, however often its row does."""
    first = codec.timestamp(at_us / 1_000_000)
    assert first.ToMicroseconds() == at_us
    assert codec.timestamp(codec.seconds(first)) == first


async def test_a_page_of_the_log_fits_a_message(place: Place) -> None:
    """However large the rows are: fewer changes come, never none, and the rest comes next."""
    labels = {f"k{n}": "v" * 255 for n in range(64)}
    wide = [create(replace(instance(f"n{n}"), labels=labels)) for n in range(300)]
    for start in range(0, 300, 100):
        await place.store.items_commit(wide[start : start + 100])
    place.sql("UPDATE change SET body = repeat('x', 100000)::bytea WHERE kind = 1")
    after, told = 0, 0
    while True:
        page = await place.store.changes_read(after, 1000)
        assert page.records, "a page is never empty before the head"
        assert sum(len(record.body) for record in page.records) < 5 * 1024 * 1024
        told += len(page.records)
        after = page.records[-1].revision
        if after == page.head_revision:
            break
    assert told == 600


async def test_who_waits_for_a_host_is_looked_at_every_second_for_ever(place: Place) -> None:
    """A scheduler that was away for an hour is asked at once when it is back; other looks slow
    down. MECHANICS B5.
    """
    rows = [instance("waits"), instance("builds")]
    await place.store.items_commit([Item(host=host())])
    await place.store.items_commit([create(row) for row in rows])
    await claim_all(place.store, rows[1:])
    place.sql(
        "UPDATE operation SET looks = 20, created_at = now() - interval '1 hour',"
        " look_again_at = now()"
    )
    assert len(await place.store.operations_take(10)) == 2
    soon, late = place.sql(
        "SELECT extract(epoch FROM look_again_at - now()) FROM operation ORDER BY phase"
    ).split()
    assert float(soon) < 2
    assert 50 < float(late) < 70


async def test_every_session_has_its_time_limits(place: Place) -> None:
    """Those that the server knows: transaction_timeout came with PostgreSQL 17. MECHANICS A6."""
    assert len(READS.settings(16)) == 1
    assert READS.statement_ms < READS.transaction_ms <= 2000 < WRITES.statement_ms
    session = Session(place.url, "limits")

    async def limits(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
        names = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"]
        if connection.get_server_version().major >= 17:
            names.append("transaction_timeout")
        return [await connection.fetchval(f"SHOW {name}") for name in names]

    found = await session.run(limits)
    await session.close()
    assert all(limit.endswith("s") and limit != "0" for limit in found), found


async def test_a_statement_that_takes_too_long_is_unavailability_not_a_bug(place: Place) -> None:
    """Cancelled by the server, rolled back, tried again, and then said."""
    session = Session(place.url, "slow")

    async def slow(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("SET statement_timeout = '100ms'")
        await connection.execute("SELECT pg_sleep(10)")

    with pytest.raises(Unavailable):
        await session.run(slow)
    await session.close()


@contextlib.asynccontextmanager
async def locked(place: Place) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Nobody reads an instance: whatever a statement needs of them takes too long. Gives who holds
    the lock.
    """
    holder = await asyncpg.connect(place.url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
            yield holder
    finally:
        await holder.close()


LISTED = Query(ResourceKind.INSTANCE, "", "p", "", 9)
ONE = Query(ResourceKind.INSTANCE, new_id(), "", "", 1)
HELD = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def held(holder: asyncpg.Connection[asyncpg.Record]) -> None:
    """Until somebody waits for the lock."""
    for _ in range(6000):
        if await holder.fetchval(HELD):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing waits for the lock")


@pytest.mark.parametrize(("query", "kind"), [(LISTED, NoCapacity), (ONE, Unavailable)])
async def test_a_read_that_takes_too_long_ends_and_is_not_tried_again(
    place: Place, query: Query, kind: type[CloudError]
) -> None:
    """A list says so in a way that no client sends again as it was. MECHANICS A6."""
    log = place.server.folder / "postgres.log"
    before = log.read_text().count("due to statement timeout")
    async with locked(place):
        with pytest.raises(kind) as refused:
            await place.store.records_read([query])
    assert refused.value.reason == "READ_TOO_LONG"
    assert log.read_text().count("due to statement timeout") == before + 1
    assert len(await place.store.records_read([query])) == 1


async def test_nothing_waits_for_a_page_but_pages(place: Place) -> None:
    """Looks, creates and the heartbeat have a session of their own."""
    await place.store.items_commit([Item(host=host())])
    async with locked(place) as holder:
        page = asyncio.create_task(place.store.records_read([LISTED]))
        await held(holder)
        assert await place.store.hosts_read(["h1"])
        assert await place.store.catalog_read([(ResourceKind.FLAVOR, new_id())]) == {}
        assert (await place.store.changes_read(1 << 62, 1)).head_revision
        assert not page.done()
    assert len(await page) == 1


async def test_while_the_database_stays_away_refusals_come_at_once(tmp_path: Path) -> None:
    """Only the first waits for it to come back, and its return is noticed. DESIGN section 6."""
    with postgres(tmp_path / "pg") as server:
        await migrate(server.url(), CLOUD)
        store = PostgresStore(server.url())
        item = create(instance("a"))
        server.kill()
        with pytest.raises(Unavailable):
            await store.items_commit([item])
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await store.items_commit([item])
        assert time.monotonic() - began < 1.0
        server.start()
        outcomes = await once_back(lambda: store.items_commit([item]))
        assert refusals(outcomes) == [""]
        await store.close()


async def test_requests_are_remembered(place: Place) -> None:
    """Nothing sweeps them: neither the end of their instance nor that of the process."""
    row = instance()
    item = create(row)
    await place.store.items_commit([item])
    situation = (await place.store.situations_read([row.id]))[row.id]
    operation = replace(item.operations[0], id=new_id(), version=0)
    gone = lifecycle.delete_asked(situation, operation, 2.0)
    assert isinstance(gone, Item)
    assert refusals(await place.store.items_commit([gone])) == [""]
    again = PostgresStore(place.url)
    assert item.request is not None
    assert await again.request_read(item.request) == item.request
    assert refusals(await again.items_commit([item])) == ["REPLAYED"]
    await again.close()


async def test_two_stores_that_insert_the_same_at_once_insert_it_once(place: Place) -> None:
    """A request, a name, a host: whoever comes second is refused, by name."""
    other = PostgresStore(place.url)
    flavors = [FlavorRow(new_id(), "small", Resources(1, 1, 1), 1.0) for _ in range(2)]
    for n in range(20):
        request_id, name = new_id(), f"n{n}"
        batches = [
            [
                create(instance(name), request_id),
                Item(host=host(f"h{n}")),
                Item(entry=replace(flavor, id=new_id(), name=name)),
            ]
            for flavor in flavors
        ]
        both = await asyncio.gather(
            place.store.items_commit(batches[0]), other.items_commit(batches[1])
        )
        for mine, theirs in zip(*map(refusals, both), strict=True):
            first, second = sorted([mine, theirs])
            assert not first
            assert second in ("REPLAYED", "STALE", "NAME_TAKEN")
    await other.close()
    log = await place.store.changes_read(0, 1000)
    assert [r.revision for r in log.records] == list(range(1, log.head_revision + 1))
    assert place.sql("SELECT max(incarnation), count(*) FROM host") == "1|20"


async def test_a_twin_through_another_conductor_is_told_of_its_twin(place: Place) -> None:
    """Never that its name is taken: by whom, if not by itself? However the two commits fall; the
    looks of the function are pulled apart so that one falls between any two of them.
    """
    looks = place.sql("SELECT pg_get_functiondef('refused_items'::regproc)")
    assert "\n    IF cardinality" in looks
    place.sql(
        looks.replace("\n    IF cardinality", "\n    PERFORM pg_sleep(0.01);\n    IF cardinality")
    )
    other = PostgresStore(place.url)

    async def late(item: Item, delay_s: float) -> list[Outcome]:
        await asyncio.sleep(delay_s)
        return await other.items_commit([item])

    for n in range(40):
        request_id = new_id()
        twins = [create(instance(f"n{n}"), request_id) for _ in range(2)]
        both = await asyncio.gather(place.store.items_commit(twins[:1]), late(twins[1], n * 0.002))
        first, second = sorted([*refusals(both[0]), *refusals(both[1])])
        assert not first
        # STALE is asked again, and then it is REPLAYED.
        assert second in ("REPLAYED", "STALE")
    await other.close()
