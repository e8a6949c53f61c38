"""What every store of the conductor keeps: the one commit path, its ledger and its order. Run over
PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic import lifecycle
from services.conductor.logic.items import (
    ClaimAct,
    ClaimChange,
    Committed,
    Item,
    Outcome,
    Refusal,
    Refused,
)
from services.conductor.logic.leases import Beat
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import FlavorRow
from services.domain.errors import Broken, Unavailable
from services.domain.instance import Power
from services.domain.kinds import HostState, ResourceKind
from services.domain.resources import NOTHING, Resources
from services.runtime.ids import new_id
from tests.engines import Postgres, postgres
from tests.stores import CLOUD, claim_all, create, host, new_store, refusals
from tests.unit.conductor.situations import instance


async def test_revisions_are_gapless_and_in_commit_order(store: PostgresStore) -> None:
    """Each visible change takes the next revision, and the log shows all of them."""
    await store.items_commit([Item(host=host())])
    rows = [instance(f"n{n}") for n in range(5)]
    outcomes = await store.items_commit([create(row) for row in rows])
    await claim_all(store, rows)
    told = [r.revision for o in outcomes if isinstance(o, Committed) for r in o.records]
    log = await store.changes_read(0, 1000)
    assert [r.revision for r in log.records] == list(range(1, log.head_revision + 1))
    assert sorted(told) == list(range(2, 12))


async def test_versions_of_a_row_count_without_a_gap(store: PostgresStore) -> None:
    """1, 2, 3 for an instance, its operation and its host."""
    await store.items_commit([Item(host=host())])
    row = instance()
    await store.items_commit([create(row)])
    await claim_all(store, [row])
    records = (await store.changes_read(0, 1000)).records
    by_row: dict[str, list[int]] = {}
    for record in records:
        by_row.setdefault(record.id, []).append(record.version)
    assert all(versions == list(range(1, len(versions) + 1)) for versions in by_row.values())


async def test_the_epoch_is_the_revision_of_the_claiming_commit(store: PostgresStore) -> None:
    """So an epoch is never used twice."""
    await store.items_commit([Item(host=host())])
    row = instance()
    await store.items_commit([create(row)])
    await claim_all(store, [row])
    situation = (await store.situations_read([row.id]))[row.id]
    assert situation.holder is not None
    assert situation.holder.epoch == situation.instance.epoch == situation.instance.revision


async def test_a_repeated_request_answers_what_the_first_made(store: PostgresStore) -> None:
    """Also beside its twin in one batch, where one of the two waits for the next round."""
    request_id = new_id()
    first, second = create(instance("a"), request_id), create(instance("a"), request_id)
    assert refusals(await store.items_commit([first, second])) == ["", "STALE"]
    again = (await store.items_commit([second]))[0]
    assert isinstance(again, Refused)
    assert first.instance is not None
    assert (again.refusal, again.resource_id) == (Refusal.REPLAYED, first.instance.id)


async def test_a_request_id_with_another_payload_is_refused(store: PostgresStore) -> None:
    """And changes nothing."""
    request_id = new_id()
    await store.items_commit([create(instance("a"), request_id)])
    head = (await store.changes_read(0, 1)).head_revision
    other = create(instance("b"), request_id, fingerprint=b"g")
    assert refusals(await store.items_commit([other])) == ["REQUEST_ID_REUSED"]
    assert (await store.changes_read(0, 1)).head_revision == head


async def test_a_name_is_taken_once_among_the_living(store: PostgresStore) -> None:
    """In one batch and across batches; another project may have it."""
    one, two = instance("same"), instance("same")
    assert refusals(await store.items_commit([create(one), create(two)])) == ["", "STALE"]
    assert refusals(await store.items_commit([create(two)])) == ["NAME_TAKEN"]
    elsewhere = replace(instance("same"), project_id="q")
    assert refusals(await store.items_commit([create(elsewhere)])) == [""]


async def test_a_stale_version_is_refused_and_the_others_commit(store: PostgresStore) -> None:
    """One item that does not fit does not stop its batch."""
    rows = [instance("a"), instance("b")]
    await store.items_commit([create(row) for row in rows])
    situations = await store.situations_read([row.id for row in rows])
    stale = replace(situations[rows[0].id].instance, version=9)
    fresh = situations[rows[1].id].instance
    outcomes = await store.items_commit([Item(instance=stale), Item(instance=fresh)])
    assert refusals(outcomes) == ["STALE", ""]


async def test_two_writes_of_one_row_in_a_batch_commit_once(store: PostgresStore) -> None:
    """The second was decided on what the first has changed."""
    row = instance()
    await store.items_commit([create(row)])
    known = (await store.situations_read([row.id]))[row.id].instance
    outcomes = await store.items_commit([Item(instance=known), Item(instance=known)])
    assert refusals(outcomes) == ["", "STALE"]


async def test_an_unknown_host_has_no_room(store: PostgresStore) -> None:
    """A decision for a host that is not there is a refusal, not an error."""
    row = instance()
    await store.items_commit([create(row)])
    assert refusals(await claim_all(store, [row], "nowhere")) == ["NO_ROOM"]


async def test_a_host_that_was_removed_takes_nothing(store: PostgresStore) -> None:
    """A late decision for it, or a late word about a guest there, would stand for ever."""
    await store.items_commit([Item(host=host())])
    row = instance()
    await store.items_commit([create(row)])
    removed = replace(host(seen=1), state=HostState.DOWN, deleted=True)
    assert refusals(await store.items_commit([Item(host=removed)])) == [""]
    assert refusals(await claim_all(store, [row])) == ["NO_ROOM"]
    stray = ClaimChange(ClaimAct.CONDEMN, new_id(), "h1", NOTHING, epoch=5)
    assert refusals(await store.items_commit([Item(claims=(stray,))])) == ["STALE"]
    await store.items_commit([Item(host=host(seen=2))])
    assert refusals(await claim_all(store, [row])) == [""]


async def test_a_shrunk_host_keeps_what_it_has_and_takes_no_more(store: PostgresStore) -> None:
    """Shrinking never fails, a claim never raises used above target, a release never fails.
    MECHANICS A7.
    """
    await store.items_commit([Item(host=host())])
    rows = [instance(f"n{n}") for n in range(3)]
    await store.items_commit([create(row) for row in rows])
    assert refusals(await claim_all(store, rows[:2])) == ["", ""]
    shrunk = host(target=Resources(1, 100, 1), seen=1)
    assert refusals(await store.items_commit([Item(host=shrunk)])) == [""]
    assert refusals(await claim_all(store, rows[2:])) == ["NO_ROOM"]
    situation = (await store.situations_read([rows[0].id]))[rows[0].id]
    assert situation.holder is not None
    gone = Seen(rows[0].id, situation.holder.epoch, "h1", 2, 1, 0, Power.OFF, True, ("X", "y"))
    assert refusals(await store.items_commit([lifecycle.observed(situation, gone, 3.0)])) == [""]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=30))
async def test_a_batch_of_claims_is_taken_one_by_one(server: Postgres, sizes: list[int]) -> None:
    """The batch's verdicts are those of the greedy order, and used is the sum of what was taken."""
    async with new_store(server) as (store, name):
        await store.items_commit([Item(host=host(target=Resources(20, 10**6, 10**6)))])
        rows = [
            replace(instance(f"n{n}"), resources=Resources(size, 1, 1))
            for n, size in enumerate(sizes)
        ]
        await store.items_commit([create(row) for row in rows])
        outcomes = await claim_all(store, rows)
        used, expected = 0, []
        for size in sizes:
            fits = used + size <= 20
            used += size if fits else 0
            expected.append("" if fits else "NO_ROOM")
        assert refusals(outcomes) == expected
        ledger = server.sql("SELECT used_vcpus, claim_count FROM host", name)
        assert ledger == f"{used}|{expected.count('')}"
        claims = server.sql("SELECT coalesce(sum(vcpus), 0), count(*) FROM claim", name)
        assert claims == ledger


async def test_observations_apply_once_and_never_backwards(store: PostgresStore) -> None:
    """Only above the claim's stored (incarnation, sequence), only from the live incarnation.
    MECHANICS D4.
    """
    await store.items_commit([Item(host=host())])
    row = instance()
    await store.items_commit([create(row)])
    await claim_all(store, [row])

    async def observe(sequence: int, incarnation: int, epoch: int | None = None) -> str:
        situation = (await store.situations_read([row.id]))[row.id]
        assert situation.holder is not None
        seen = Seen(
            row.id,
            epoch or situation.holder.epoch,
            "h1",
            incarnation,
            sequence,
            0,
            Power.OFF,
            False,
        )
        item = lifecycle.observed(situation, seen, 3.0)
        return refusals(await store.items_commit([item]))[0]

    assert await observe(2, 1) == ""
    assert await observe(2, 1) == "DUPLICATE"
    assert await observe(1, 1) == "DUPLICATE"
    assert await observe(3, 1, epoch=999) == "NO_CLAIM"
    await store.items_commit([Item(host=host(seen=1))])
    assert await observe(3, 1) == "SUPERSEDED"
    assert await observe(1, 2) == ""


async def test_a_view_has_all_claims_of_one_snapshot(store: PostgresStore) -> None:
    """With what is wanted under each, true at its revision."""
    await store.items_commit([Item(host=host()), Item(host=host("h2"))])
    rows = [instance(f"n{n}") for n in range(4)]
    await store.items_commit([create(row) for row in rows])
    await claim_all(store, rows[:3])
    await claim_all(store, rows[3:], "h2")
    view = await store.host_view_read("h1")
    assert view is not None
    assert {row.id for row, _ in view.wanted} == {row.id for row in rows[:3]}
    assert view.revision == (await store.changes_read(0, 1)).head_revision
    assert await store.host_view_read("nowhere") is None


async def test_due_operations_are_taken_once_and_looked_at_again(store: PostgresStore) -> None:
    """Two reconcilers at once never take the same look, and each taken one has a next look.
    MECHANICS B3.
    """
    rows = [instance(f"n{n}") for n in range(20)]
    await store.items_commit([create(row) for row in rows])
    first, second = await asyncio.gather(store.operations_take(20), store.operations_take(20))
    taken = [due.instance_id for due in (*first, *second)]
    assert sorted(taken) == sorted(row.id for row in rows)
    assert await store.operations_take(20) == []


async def test_operations_are_taken_before_they_would_be_late(store: PostgresStore) -> None:
    """Who comes by every quarter of a second takes what is due in between, and once. MECHANICS
    B5.
    """
    soon, later = replace(create(instance("a")), look_again_s=30.0), create(instance("b"))
    await store.items_commit([soon, replace(later, look_again_s=300.0)])
    assert await store.operations_take(20) == []
    assert len(await store.operations_take(20, 30.0)) == 1
    assert await store.operations_take(20) == []


async def test_a_lease_is_renewed_only_by_the_live_incarnation(store: PostgresStore) -> None:
    """An older agent is told that its time is over."""
    await store.items_commit([Item(host=host())])

    async def silent_s() -> float:
        (lease,) = (await store.leases_read()).leases
        assert (lease.host_id, lease.state) == ("h1", HostState.UP)
        return lease.silent_s

    await asyncio.sleep(0.1)
    answers = await store.leases_renew([Beat("h1", 2), Beat("nobody", 1)])
    assert [answer.superseded for answer in answers] == [True, True]
    before_s = await silent_s()
    assert before_s >= 0.1
    answers = await store.leases_renew([Beat("h1", 1), Beat("h1", 2)])
    assert [answer.superseded for answer in answers] == [False, True]
    assert await silent_s() < before_s


async def test_a_beat_says_whether_the_hosts_bus_is_silent(store: PostgresStore) -> None:
    """The last word of the live incarnation counts; a new one has said nothing yet."""
    await store.items_commit([Item(host=host())])

    async def silent() -> bool:
        return (await store.leases_read()).leases[0].bus_silent

    assert not await silent()
    for said in (True, False, True):
        await store.leases_renew([Beat("h1", 1, not said), Beat("h1", 1, said)])
        await store.leases_renew([Beat("h1", 9, not said)])
        assert await silent() is said
    row = (await store.hosts_read(["h1"]))["h1"]
    await store.items_commit([Item(host=replace(row, incarnation=2))])
    assert not await silent()


async def test_pages_follow_each_other_without_gap_or_repeat(store: PostgresStore) -> None:
    """Keyset pages in the order of ids; other projects' rows are not in them."""
    rows = [instance(f"n{n}") for n in range(7)]
    await store.items_commit([create(row) for row in rows])
    await store.items_commit([create(replace(instance("x"), project_id="q"))])
    found: list[str] = []
    after = ""
    for _ in range(10):
        page = (await store.records_read([Query(ResourceKind.INSTANCE, "", "p", after, 3)]))[0]
        found += [record.id for record in page.records]
        if not page.more:
            break
        after = found[-1]
    assert found == sorted(row.id for row in rows)


async def test_deleted_entries_leave_their_name(store: PostgresStore) -> None:
    """A flavor's name can be used again once it is gone."""
    row = FlavorRow(new_id(), "small", Resources(1, 1, 1), 1.0)
    assert refusals(await store.items_commit([Item(entry=row)])) == [""]
    gone = replace(row, deleted=True, version=1)
    assert refusals(await store.items_commit([Item(entry=gone)])) == [""]
    again = replace(row, id=new_id())
    assert refusals(await store.items_commit([Item(entry=again)])) == [""]
    assert await store.catalog_read([(ResourceKind.FLAVOR, row.id)]) == {}


async def test_the_database_away_is_said_and_its_return_noticed(tmp_path: Path) -> None:
    """UNAVAILABLE after a few seconds, then at once, and afterwards the same store goes on."""
    with postgres(tmp_path / "pg") as server:
        await migrate(server.url(), CLOUD)
        store = PostgresStore(server.url())
        item = create(instance("a"))
        server.kill()
        with pytest.raises(Unavailable, match="database"):
            await store.items_commit([item])
        server.start()
        outcomes: list[Outcome] = []
        while not outcomes:
            with contextlib.suppress(Unavailable):
                outcomes = await store.items_commit([item])
            await asyncio.sleep(0.02)
        assert refusals(outcomes) == [""]
        await store.close()


async def test_a_commit_whose_answer_was_lost_is_answered_as_the_first(
    store: PostgresStore,
) -> None:
    """The same items are committed again, and the second execution gives the first's answer.
    MECHANICS A5.
    """
    item = create(instance("a"))
    await store.items_commit([item])
    again = (await store.items_commit([item]))[0]
    assert isinstance(again, Refused)
    assert item.instance is not None
    assert (again.refusal, again.resource_id) == (Refusal.REPLAYED, item.instance.id)


async def test_a_database_of_another_cloud_or_release_is_refused(
    server: Postgres, database: str
) -> None:
    """Nothing is written to what is not ours, or what a newer stead has written."""
    with pytest.raises(Broken, match="belongs to cloud") as other:
        await migrate(server.url(database), "ffffffffffff")
    assert other.value.reason == "CLOUD_MISMATCH"
    server.sql("INSERT INTO schema_migration VALUES (9999, 'x', 'y')", database)
    with pytest.raises(Broken, match="newer") as newer:
        await migrate(server.url(database), CLOUD)
    assert newer.value.reason == "SCHEMA_NEWER"


async def test_a_migration_that_was_edited_after_it_was_applied_is_refused(
    server: Postgres, database: str
) -> None:
    """What stands in the database is then not what this release means."""
    server.sql("UPDATE schema_migration SET checksum = 'another' WHERE number = 1", database)
    with pytest.raises(Broken, match="differs") as changed:
        await migrate(server.url(database), CLOUD)
    assert changed.value.reason == "SCHEMA_CHANGED"
