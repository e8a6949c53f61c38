"""Lists that stay true to one commit while others go on, in any order and with any condition."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.conductor.edges.store import conditions
from services.conductor.edges.store.bounds import Bounds
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Before, Item, Record
from services.domain.condition import Condition
from services.domain.errors import Invalid, OutOfRange
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.resources import Resources
from tests.engines import Postgres
from tests.histories import History, folded, listed, told_alike
from tests.stores import create, flavor, host, new_store, refusals
from tests.unit.conductor.situations import instance

CHOICES: dict[ResourceKind, list[tuple[Condition, ...]]] = {
    ResourceKind.INSTANCE: [
        (),
        (Condition("name", ("a", "b", "c")),),
        (Condition("name", ("a",)),),
        (Condition("power", (str(Power.RUNNING.value),)),),
        (Condition("labels.a", ("b",), negated=True),),
        (Condition("host_id", ("",), negated=True), Condition("labels.a", ("b", "c"))),
    ],
    ResourceKind.OPERATION: [(), (Condition("phase", ("1",)),), (Condition("actor", ("me",)),)],
    ResourceKind.FLAVOR: [(), (Condition("name", ("a",), negated=True),)],
    ResourceKind.KEY_PAIR: [()],
    ResourceKind.PROJECT: [()],
    ResourceKind.HOST: [(), (Condition("enabled", ("true",)),), (Condition("state", ("1",)),)],
}
NAMED = (ResourceKind.INSTANCE, ResourceKind.FLAVOR, ResourceKind.KEY_PAIR)


def any_query(random: Random) -> Query:
    """A list of anything, in any order, of one project or all."""
    kind = random.choice([ResourceKind.INSTANCE, *CHOICES])
    return Query(
        kind, "", random.choice(["", "p"]), "", random.randint(1, 7),
        conditions=random.choice(CHOICES[kind]),
        order=random.choice(list(ListOrder)) if kind in NAMED else ListOrder.ID,
        descending=random.random() < 0.5,
    )  # fmt: skip


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(min_value=0, max_value=1 << 32))
async def test_pages_show_the_state_at_their_revision_whatever_is_committed_meanwhile(
    server: Postgres, seed: int
) -> None:
    """The state at any revision is what the log says up to there; so is that of a list now. With
    bounds so small that a page often ends before it is full.
    """
    random = Random(seed)
    bounds = Bounds(random.randint(3, 40), random.randint(1, 5), random.randint(1, 5))
    async with new_store(server, bounds=bounds) as (store, _):
        history = History(store, random)
        records: tuple[Record, ...] = ()
        await history.go_on(random.randint(1, 60))
        for _ in range(8):
            query = any_query(random)
            head = (await store.changes_read(0, 1)).head_revision
            at = random.choice([0, random.randint(1, head) if head else 0])
            found, revision = await listed(store, query, at, between=history.go_on)
            records = (await store.changes_read(0, 10_000)).records
            assert told_alike(found, expected(records, query, revision)), (query, revision)
        assert_each_change_names_what_was_before(records)


def expected(records: tuple[Record, ...], query: Query, revision: int) -> list[Record]:
    """What a list must show, by the log alone."""
    then = folded(records, revision)
    shown = [
        one
        for one in then.values()
        if one.kind is query.kind
        and not one.deleted
        and (one.public or not one.project_id or query.project_id in ("", one.project_id))
        and conditions.hold(query.kind, query.conditions, one.body)
    ]

    def key(one: Record) -> tuple[str, str]:
        message = conditions.MESSAGES[query.kind].FromString(one.body)
        return (getattr(message, "name") if query.order is ListOrder.NAME else "", one.id)  # noqa: B009  # messages differ

    return sorted(shown, key=key, reverse=query.descending)


def assert_each_change_names_what_was_before(records: tuple[Record, ...]) -> None:
    """Also in the order of revisions, without a gap."""
    last: dict[tuple[ResourceKind, str], Record] = {}
    for one, revision in zip(records, itertools.count(1), strict=False):
        assert one.revision == revision
        before = last.get((one.kind, one.id))
        if before is None or (before.deleted and one.kind is ResourceKind.PROJECT):
            assert one.before is None
        else:
            assert one.version == before.version + 1
            assert one.before == Before(before.body, before.revision, before.epoch, before.ledger)
        last[one.kind, one.id] = one


async def test_a_page_ends_after_ten_thousand_rows_and_says_where(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """Whether a column tells what is wanted or only the message; the next page goes on there."""
    row = instance("first")
    await store.items_commit([create(row)])
    server.sql(
        "INSERT INTO instance SELECT r.* FROM instance i, generate_series(1, 12000) n,"
        " LATERAL jsonb_populate_record(i, jsonb_build_object('id', gen_random_uuid(),"
        " 'name', 'x' || n)) r",
        database,
    )
    row = instance("last", id="ffffffff-ffff-7fff-bfff-ffffffffffff", labels={"rare": "1"})
    await store.items_commit([create(replace(row, power=Power.CRASHED))])
    for rare in (Condition("power", (str(Power.CRASHED.value),)), Condition("labels.rare", ("1",))):
        query = Query(ResourceKind.INSTANCE, "", "p", "", 5, (rare,))
        (page,) = await store.records_read([query])
        assert not page.records
        assert page.more
        assert page.last_id
        (page,) = await store.records_read(
            [replace(query, after_id=page.last_id, pinned_revision=page.revision)]
        )
        assert [one.id for one in page.records] == [row.id]
        assert not page.more
    assert Bounds().examined == 10_000


async def test_what_is_forgotten_or_of_the_future_is_out_of_range(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """REVISION_COMPACTED, with the oldest revision that a list can still be true to."""
    for n in range(5):
        await store.items_commit([create(instance(f"n{n}"))])
    server.sql("UPDATE compaction SET revision = 4", database)
    query = Query(ResourceKind.INSTANCE, "", "p", "", 5)
    for at in (3, 11):
        with pytest.raises(OutOfRange) as refused:
            await store.records_read([replace(query, pinned_revision=at)])
        assert refused.value.reason == "REVISION_COMPACTED"
        assert refused.value.metadata == {"oldest_revision": "4"}
    (page,) = await store.records_read([replace(query, pinned_revision=4)])
    assert len(page.records) == 2


async def test_questions_of_one_moment_are_answered_together(store: PostgresStore) -> None:
    """Each cut down to its project, to what lives and to its conditions; at one revision."""
    row, size = instance("web"), flavor()
    await store.items_commit([create(row), Item(entry=size), Item(host=host())])
    await store.items_commit([Item(entry=replace(size, deleted=True, version=1))])
    one = Query(ResourceKind.INSTANCE, row.id, "p", "", 1)
    answers = await store.records_read(
        [
            one,
            replace(one, project_id="q"),
            replace(one, conditions=(Condition("name", ("db",)),)),
            Query(ResourceKind.FLAVOR, size.id, "p", "", 1),
            Query(ResourceKind.FLAVOR, size.id, "p", "", 1, deleted=True),
            Query(ResourceKind.HOST, "h1", "", "", 1),
            replace(one, id="", limit=9),
        ]
    )
    assert [len(page.records) for page in answers] == [1, 0, 0, 0, 1, 1, 1]
    assert {page.revision for page in answers} == {5}


async def test_one_thing_is_shown_as_it_was(store: PostgresStore) -> None:
    """Also after its end; not before its beginning."""
    row = instance("web")
    await store.items_commit([create(row)])
    known = (await store.situations_read([row.id]))[row.id].instance
    gone = replace(known, name="bew", standing=Standing(State.DELETED, Task.NONE))
    await store.items_commit([Item(entry=flavor()), Item(instance=gone)])
    one = Query(ResourceKind.INSTANCE, row.id, "p", "", 1, pinned_revision=2)
    (page,) = await store.records_read([one])
    assert [(found.version, found.revision) for found in page.records] == [(1, 1)]
    assert (await store.records_read([replace(one, pinned_revision=4)]))[0].records == ()
    size = Query(ResourceKind.FLAVOR, "", "", "", 5, pinned_revision=2)
    assert (await store.records_read([size]))[0].records == ()


async def test_what_has_no_name_is_not_ordered_by_it(store: PostgresStore) -> None:
    """ORDER_INVALID."""
    query = Query(ResourceKind.HOST, "", "", "", 5, order=ListOrder.NAME)
    with pytest.raises(Invalid) as refused:
        await store.records_read([query])
    assert refused.value.reason == "ORDER_INVALID"


async def test_a_host_is_shown_with_the_ledger_of_then(store: PostgresStore) -> None:
    """Target, use and claims as they were."""
    await store.items_commit([Item(host=host(target=Resources(8, 1000, 100)))])
    row = instance()
    await store.items_commit([create(row)])
    situation = (await store.situations_read([row.id]))[row.id]
    item = lifecycle.claimed(situation, "h1", 2.0)
    assert item is not None
    assert refusals(await store.items_commit([item])) == [""]
    query = Query(ResourceKind.HOST, "", "", "", 5)
    now, then = [
        (await store.records_read([replace(query, pinned_revision=at)]))[0].records[0]
        for at in (0, 1)
    ]
    assert now.ledger == (8, 1000, 100, 1, 100, 1, 1)
    assert then.ledger == (8, 1000, 100, 0, 0, 0, 0)
