"""Projects and their quotas: what is used is what lives, and no commit passes a limit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Committed, Item, Refusal, Refused
from services.conductor.logic.rows import InstanceRow
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ResourceKind
from services.domain.resources import UNLIMITED, UNUSED, QuotaAmounts, Resources
from tests.engines import Postgres
from tests.stores import create, flavor, new_store, project, refusals
from tests.unit.conductor.situations import instance

LIVING = """
SELECT count(*), coalesce(sum(vcpus), 0), coalesce(sum(memory_mib), 0), coalesce(sum(disk_gib), 0)
  FROM instance WHERE NOT deleted
"""
USED = "SELECT used_instances, used_vcpus, used_memory_mib, used_disk_gib FROM project"
ENDED = Standing(State.DELETED, Task.NONE)


async def ended(store: PostgresStore, row: InstanceRow) -> Item:
    """The last commit of a delete."""
    known = (await store.situations_read([row.id]))[row.id].instance
    return Item(instance=replace(known, standing=ENDED))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans()), min_size=1, max_size=12
        ),
        min_size=1,
        max_size=4,
    )
)
async def test_a_batch_is_taken_one_by_one_up_to_the_limit(
    server: Postgres, batches: list[list[tuple[int, int, bool]]]
) -> None:
    """In order, those that fit beside the ones before them; refused for whatever reason, an item
    takes nothing. Between the batches one instance ends.
    """
    limits = QuotaAmounts(8, 20, 2000, -1)
    async with new_store(server, limits) as (store, name):
        living: list[tuple[InstanceRow, int, int]] = []
        for n, batch in enumerate(batches):
            items, verdicts = [], []
            used = (len(living), sum(v for _, v, _ in living), sum(m for _, _, m in living))
            for k, (vcpus, memory, bad) in enumerate(batch):
                size = Resources(vcpus, memory * 100, 1)
                row = instance(f"n{n}-{k}", resources=size, version=9 if bad else 0)
                items.append(
                    Item(instance=replace(row, version=0))
                    if not bad
                    else Item(instance=replace(row, version=0), entry=flavor(version=9))
                )
                after = (used[0] + 1, used[1] + vcpus, used[2] + memory * 100)
                fits = after[0] <= 8 and after[1] <= 20 and after[2] <= 2000
                verdicts.append("STALE" if bad else "" if fits else "NO_QUOTA")
                if not bad and fits:
                    used = after
                    living.append((row, vcpus, memory * 100))
            assert refusals(await store.items_commit(items)) == verdicts
            assert server.sql(USED, name) == server.sql(LIVING, name)
            if living:
                row, _, _ = living.pop(0)
                assert refusals(await store.items_commit([await ended(store, row)])) == [""]
        assert server.sql(USED, name) == server.sql(LIVING, name)
        assert server.sql(USED, name).split("|")[0] == str(len(living))


async def test_a_refusal_tells_the_project_as_it_was(server: Postgres) -> None:
    """What it used then, with those before it in the batch; its own limits, if it has any."""
    async with new_store(server, QuotaAmounts(3, -1, -1, -1)) as (store, _):
        await store.items_commit([create(instance("a"))])
        outcomes = await store.items_commit([create(instance(n)) for n in "bcde"])
        assert refusals(outcomes) == ["", "", "NO_QUOTA", "NO_QUOTA"]
        told = outcomes[3]
        assert isinstance(told, Refused)
        assert told.project is not None
        assert told.refusal is Refusal.NO_QUOTA
        assert (told.project.id, told.project.version, told.project.limits) == ("p", 0, None)
        assert told.project.used == QuotaAmounts(3, 3, 300, 3)
        await store.items_commit([Item(project=project(limits=QuotaAmounts(-1, 4, -1, -1)))])
        outcomes = await store.items_commit([create(instance(n)) for n in "de"])
        told = outcomes[1]
        assert refusals(outcomes) == ["", "NO_QUOTA"]
        assert isinstance(told, Refused)
        assert told.project is not None
        assert (told.project.version, told.project.limits) == (1, QuotaAmounts(-1, 4, -1, -1))
        assert told.project.used.vcpus == 4


async def test_two_conductors_together_never_pass_a_limit(server: Postgres) -> None:
    """The project is locked before anything is counted."""
    async with new_store(server, QuotaAmounts(10, -1, -1, -1)) as (store, name):
        other = PostgresStore(server.url(name), usual_limits=QuotaAmounts(10, -1, -1, -1))
        batches = [
            [create(instance(f"{who}{n}-{k}")) for k in range(3)] for n in range(5) for who in "ab"
        ]
        answers = await asyncio.gather(
            *((store if n % 2 else other).items_commit(batch) for n, batch in enumerate(batches))
        )
        told = [one for answer in answers for one in refusals(answer)]
        assert told.count("") == 10
        assert set(told) == {"", "NO_QUOTA"}
        assert server.sql(USED, name) == server.sql(LIVING, name)
        await other.close()


async def test_use_above_a_lowered_limit_stays_and_nothing_is_added(store: PostgresStore) -> None:
    """Nor does an end below it fail."""
    rows = [instance(n) for n in "abc"]
    await store.items_commit([create(row) for row in rows])
    tight = project(limits=QuotaAmounts(1, -1, -1, -1))
    assert refusals(await store.items_commit([Item(project=tight)])) == [""]
    assert refusals(await store.items_commit([create(instance("d"))])) == ["NO_QUOTA"]
    for row in rows:
        assert refusals(await store.items_commit([await ended(store, row)])) == [""]
    assert refusals(await store.items_commit([create(instance("d"))])) == [""]


async def test_an_instance_gives_its_use_back_once(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """However often its row is written after its end, or refused before it."""
    row = instance()
    await store.items_commit([create(row)])
    end = await ended(store, row)
    assert refusals(await store.items_commit([end, end])) == ["", "STALE"]
    assert refusals(await store.items_commit([end])) == ["STALE"]
    again = (await store.situations_read([row.id]))[row.id].instance
    assert refusals(await store.items_commit([Item(instance=replace(again, power=Power.OFF))])) == [
        ""
    ]
    assert server.sql(USED, database) == "0|0|0|0"


async def test_a_repeated_request_uses_nothing(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    item = create(instance())
    await store.items_commit([item])
    assert refusals(await store.items_commit([item])) == ["REPLAYED"]
    assert server.sql(USED, database) == "1|1|100|1"


async def test_a_project_comes_with_its_first_instance_and_is_known_when_made_known(
    store: PostgresStore,
) -> None:
    """Before that it is in no list and not in the log; its use is known all the same."""
    assert await store.projects_read(["p"]) == {}
    await store.items_commit([create(instance())])
    row = (await store.projects_read(["p"]))["p"]
    assert (row.version, row.limits, row.used) == (0, None, QuotaAmounts(1, 1, 100, 1))
    listed = Query(ResourceKind.PROJECT, "", "", "", 10)
    assert (await store.records_read([listed]))[0].records == ()
    outcome = (await store.items_commit([Item(project=project(display_name="Shop"))]))[0]
    assert isinstance(outcome, Committed)
    (told,) = outcome.records
    assert (told.kind, told.version, told.project_id) == (ResourceKind.PROJECT, 1, "p")
    assert told.quota == (UNLIMITED, QuotaAmounts(1, 1, 100, 1))
    (page,) = await store.records_read([listed])
    assert [replace(one, before=None) for one in page.records] == [told]
    assert (await store.projects_read(["p"]))["p"].display_name == "Shop"
    for mine, others in (("p", "q"), ("q", "p")):
        (page,) = await store.records_read([replace(listed, project_id=mine)])
        assert [one.id for one in page.records] == ([] if mine == "q" else ["p"]), others


async def test_a_project_is_written_once_from_one_look(store: PostgresStore) -> None:
    """In a batch and across batches."""
    row = project()
    assert refusals(await store.items_commit([Item(project=row), Item(project=row)])) == [
        "",
        "STALE",
    ]
    assert refusals(await store.items_commit([Item(project=row)])) == ["STALE"]
    known = (await store.projects_read(["p"]))["p"]
    changed = Item(project=replace(known, limits=QuotaAmounts(1, 2, 3, 4)))
    assert refusals(await store.items_commit([changed])) == [""]
    assert (await store.projects_read(["p"]))["p"].limits == QuotaAmounts(1, 2, 3, 4)


async def test_a_project_ends_only_without_instances(store: PostgresStore) -> None:
    """And its limits end with it; made again it goes on counting, as something new."""
    row = instance()
    await store.items_commit(
        [create(row), Item(project=project(limits=QuotaAmounts(1, -1, -1, -1)))]
    )
    known = (await store.projects_read(["p"]))["p"]
    end = Item(project=replace(known, deleted=True))
    assert refusals(await store.items_commit([end])) == ["NOT_EMPTY"]
    await store.items_commit([await ended(store, row)])
    # Beside an instance that comes in the same commit it is looked at again.
    assert refusals(await store.items_commit([end, create(instance("b"))])) == ["STALE", ""]
    (other,) = (await store.records_read([_instances()]))[0].records
    known_other = (await store.situations_read([other.id]))[other.id].instance
    await store.items_commit([Item(instance=replace(known_other, standing=ENDED))])
    assert refusals(await store.items_commit([end])) == [""]
    assert await store.projects_read(["p"]) == {}
    assert refusals(await store.items_commit([create(instance("c")), create(instance("d"))])) == [
        "",
        "",
    ]
    unknown = (await store.projects_read(["p"]))["p"]
    assert (unknown.version, unknown.display_name, unknown.limits) == (0, "", None)
    outcome = (await store.items_commit([Item(project=project())]))[0]
    assert isinstance(outcome, Committed)
    assert [(one.version, one.before) for one in outcome.records] == [(3, None)]


def _instances() -> Query:
    return Query(ResourceKind.INSTANCE, "", "p", "", 10)


async def test_a_dry_run_says_what_a_commit_would_and_changes_nothing(
    server: Postgres,
) -> None:
    """Refusals, records and revisions alike; not a row is different afterwards."""
    async with new_store(server, QuotaAmounts(2, -1, -1, -1)) as (store, name):
        await store.items_commit([create(instance("a"))])
        dump = _dump(server, name)
        items = [
            create(instance("b")), create(instance("c")), create(instance("a")),
            Item(entry=flavor()), Item(project=project()), Item(project=project(deleted=True)),
        ]  # fmt: skip
        checked = await store.items_check(items)
        assert refusals(checked) == ["", "NO_QUOTA", "NAME_TAKEN", "", "", "STALE"]
        assert _dump(server, name) == dump
        assert await store.items_commit(items) == checked
        assert (await store.changes_read(0, 1)).head_revision == 6


def _dump(server: Postgres, name: str) -> list[str]:
    tables = ("counter", "instance", "operation", "project", "catalog", "request", "change")
    return [
        server.sql(f"SELECT * FROM {table} ORDER BY 1, 2", name)
        if table != "counter"
        else server.sql("SELECT revision FROM counter", name)
        for table in tables
    ]


async def test_an_empty_project_of_an_unlimited_cloud_has_nothing(store: PostgresStore) -> None:
    """Made known before anything is in it."""
    await store.items_commit([Item(project=project())])
    row = (await store.projects_read(["p", "nowhere"]))["p"]
    assert (row.version, row.used) == (1, UNUSED)


@pytest.mark.parametrize("column", ["instances", "vcpus", "memory_mib", "disk_gib"])
async def test_the_database_itself_refuses_use_below_nothing(
    store: PostgresStore, server: Postgres, database: str, column: str
) -> None:
    """The last guard of the account."""
    await store.items_commit([create(instance())])
    server.sql(f"UPDATE project SET used_{column} = 0", database)
    row = (await store.records_read([_instances()]))[0].records[0]
    known = (await store.situations_read([row.id]))[row.id].instance
    end = Item(instance=replace(known, standing=ENDED))
    assert refusals(await store.items_commit([end])) == ["STALE"]
