"""What a conductor remembers of its commits is what the store would show it, after any history."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.remember import WEIGHT_MAX, Memory
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item
from services.conductor.logic.rows import ClaimRow, Situation
from services.domain.kinds import ClaimRole, HostState
from services.domain.resources import Resources
from services.runtime.ids import new_id
from tests.stores import create, host
from tests.unit.conductor.situations import active, instance, requested
from tests.unit.conductor.test_lives import DEEDS, SAYINGS, happen

ALL = 3
HAPPENINGS = st.lists(
    st.tuples(st.integers(0, ALL - 1), st.sampled_from([*DEEDS, *SAYINGS]), st.booleans()),
    max_size=30,
)


def item_of(situation: Situation, happening: str, n: int) -> Item | None:
    if happening == "claim":
        return lifecycle.claimed(situation, "h1", n)
    item = happen(situation, happening, n)
    if item is None or happening in DEEDS:
        return item
    observed = replace(item.claims[0], incarnation=situation.claims[0].host_incarnation)
    return replace(item, claims=(observed, *item.claims[1:]))


async def commit(store: PostgresStore, memory: Memory, items: list[Item]) -> None:
    """Commits, and tells the memory as the committer does."""
    outcomes = await store.items_commit(items)
    head = (await store.changes_read(1 << 62, 1)).head_revision
    memory.learn(items, outcomes, head)


async def check(store: PostgresStore, memory: Memory, ids: list[str]) -> None:
    for id_, read in (await store.situations_read(ids)).items():
        known = memory.get(id_)
        if read.instance.deleted:
            assert known is None
        else:
            assert known is not None
            # No commit may stand on the host of a claim that is remembered: it was not read.
            claims = tuple(replace(claim, host_edition=0) for claim in read.claims)
            assert known == replace(read, head_revision=known.head_revision, claims=claims)
            assert known.head_revision <= read.head_revision


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HAPPENINGS)
async def test_what_is_remembered_is_what_would_be_read(
    store: PostgresStore, happenings: list[tuple[int, str, bool]]
) -> None:
    """Several instances, now one in a commit, now many, always from what is remembered."""
    memory = Memory()
    project_id = new_id()
    rows = [instance(f"first{n}", project_id=project_id) for n in range(ALL)]
    # The first example greets, the others are STALE.
    await store.items_commit([Item(host=host(target=Resources(999, 99_999, 9999)))])
    await commit(store, memory, [create(row) for row in rows])
    ids = [row.id for row in rows]
    await check(store, memory, ids)
    waiting: dict[str, Item] = {}
    for n, (which, happening, now) in enumerate(happenings, start=1):
        known = memory.get(ids[which])
        item = item_of(known, happening, n) if known else None
        if item is not None:
            waiting.setdefault(ids[which], item)
        if waiting and (now or n == len(happenings)):
            await commit(store, memory, list(waiting.values()))
            waiting.clear()
            await check(store, memory, ids)


def test_an_older_read_does_not_replace_what_was_committed_after_it() -> None:
    memory, situation = Memory(), replace(active(), head_revision=9)
    memory.keep([situation])
    memory.keep([replace(situation, operation=None, claims=(), head_revision=8)])
    assert memory.get(situation.instance.id) == situation


async def test_what_stands_on_another_version_is_not_put_on_top_of_what_is_known(
    store: PostgresStore,
) -> None:
    """Another conductor renamed it; this one claims by what it read then."""
    memory, row = Memory(), instance("before")
    await store.items_commit([Item(host=host())])
    await commit(store, memory, [create(row)])
    for deed in ("update", "claim"):
        read = (await store.situations_read([row.id]))[row.id]
        item = item_of(read, deed, 1)
        assert item is not None
        if deed == "update":
            await store.items_commit([item])
        else:
            await commit(store, memory, [item])
    assert memory.get(row.id) is None


def test_the_memory_is_bounded_in_number_and_weight() -> None:
    memory = Memory(situations_max=2)
    many = [requested() for _ in range(3)]
    memory.keep(many)
    assert [memory.get(one.instance.id) for one in many] == [None, *many[1:]]
    row = instance(version=1)
    heavy = requested(replace(row, wanted=replace(row.wanted, user_data=b"x" * WEIGHT_MAX)))
    memory.keep([heavy])
    assert memory.get(heavy.instance.id) is None


def test_a_host_that_is_down_is_looked_at_each_time() -> None:
    """Or an instance would be given up for what was true some time ago."""
    memory, situation = Memory(), active()
    down = ClaimRow(situation.instance.id, 7, "h1", ClaimRole.HOLDER, 7, 1, HostState.DOWN)
    memory.keep([situation])
    memory.keep([replace(situation, claims=(down,), head_revision=1)])
    assert memory.get(situation.instance.id) is None
