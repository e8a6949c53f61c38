"""The guards of the one commit path, one by one: whatever a flow decides, the books stay right."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.logic import lifecycle
from services.conductor.logic.items import ClaimAct, ClaimChange, Item
from services.conductor.logic.rows import FlavorRow, InstanceRow, Situation
from services.domain.instance import Power
from services.domain.resources import NOTHING, Resources
from services.runtime.ids import new_id
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.test_flow import check_books
from tests.stores import claim_all, create, host, refusals
from tests.unit.conductor.situations import instance

# A row once more under another id.
AGAIN = """
INSERT INTO {0} SELECT r.* FROM {0} t,
       LATERAL jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid())) r
"""
TWO_INCOMING = """
INSERT INTO claim SELECT instance_id, n, host_id, 2, 1, 1, 1, 1 FROM claim, generate_series(1, 2) n
"""


async def situation_of(store: PostgresStore, row: InstanceRow) -> Situation:
    return (await store.situations_read([row.id]))[row.id]


async def claimed(place: Place, row: InstanceRow) -> Situation:
    """An instance on h1."""
    assert refusals(await place.store.items_commit([create(row)])) == [""]
    assert refusals(await claim_all(place.store, [row])) == [""]
    return await situation_of(place.store, row)


async def test_one_version_is_written_once_whoever_is_faster(place: Place) -> None:
    """Two conductors at once: the rows are locked before they are looked at."""
    other = PostgresStore(place.url)
    row = instance()
    await place.store.items_commit([create(row)])
    for power in (Power.RUNNING, Power.OFF) * 15:
        known = await situation_of(place.store, row)
        assert known.operation is not None
        told = Item(
            instance=replace(known.instance, power=power),
            operations=(replace(known.operation, progress=power.name),),
        )
        both = await asyncio.gather(place.store.items_commit([told]), other.items_commit([told]))
        assert sorted(refusals([both[0][0], both[1][0]])) == ["", "STALE"]
    await other.close()
    check_books(place)


async def test_an_operation_that_moved_on_is_not_written_from_an_old_look(place: Place) -> None:
    """Nor twice from one look."""
    row = instance()
    await place.store.items_commit([create(row)])
    known = await situation_of(place.store, row)
    assert known.operation is not None
    told = Item(operations=(replace(known.operation, progress="10 %"),))
    assert refusals(await place.store.items_commit([told, told])) == ["", "STALE"]
    assert refusals(await place.store.items_commit([told])) == ["STALE"]
    check_books(place)


async def test_an_instance_has_one_holder_whatever_a_flow_decides(place: Place) -> None:
    """A second claim from the newest version is stopped by the database itself."""
    await place.store.items_commit([Item(host=host()), Item(host=host("h2"))])
    known = await claimed(place, instance())
    claim = ClaimChange(ClaimAct.ADD, known.instance.id, "h2", known.instance.resources)
    second = Item(instance=replace(known.instance, host_id="h2"), claims=(claim,))
    beside = create(instance("beside"))
    assert refusals(await place.store.items_commit([second, beside])) == ["STALE", ""]
    assert place.sql("SELECT count(*), max(host_id) FROM claim") == "1|h1"
    check_books(place)


async def test_an_instance_has_one_unfinished_operation(place: Place) -> None:
    """A second one is stopped by the database itself. MECHANICS B4."""
    row = instance()
    first = create(row)
    await place.store.items_commit([first])
    known = await situation_of(place.store, row)
    second = Item(
        instance=known.instance,
        operations=(replace(first.operations[0], id=new_id(), version=0),),
    )
    assert refusals(await place.store.items_commit([second])) == ["STALE"]
    check_books(place)


async def test_a_host_that_shrinks_beside_a_claim_is_not_oversubscribed(place: Place) -> None:
    """The room was looked at before the host became smaller: the last guard stops the batch, and
    its items are taken one after another.
    """
    await place.store.items_commit([Item(host=host(target=Resources(4, 1000, 100)))])
    row = instance()
    await place.store.items_commit([create(row)])
    item = lifecycle.claimed(await situation_of(place.store, row), "h1", 2.0)
    assert item is not None
    smaller = Item(host=host(target=Resources(0, 1000, 100), seen=1))
    assert refusals(await place.store.items_commit([smaller, item])) == ["", "NO_ROOM"]
    check_books(place)


@pytest.mark.parametrize(
    "books",
    [
        "UPDATE host SET used_vcpus = ceiling_vcpus + 1",
        "UPDATE host SET used_memory_mib = ceiling_memory_mib + 1",
        "UPDATE host SET used_disk_gib = ceiling_disk_gib + 1",
        "UPDATE host SET used_vcpus = -1",
        "UPDATE host SET claim_count = -1",
        "INSERT INTO claim SELECT instance_id, epoch + 1, host_id, 1, 1, 1, 1, 1 FROM claim",
        TWO_INCOMING,
        AGAIN.format("instance"),
        AGAIN.format("operation"),
        AGAIN.format("catalog"),
        "INSERT INTO request SELECT * FROM request",
        "INSERT INTO change SELECT * FROM change",
        "INSERT INTO claim SELECT instance_id, epoch + 1, 'nowhere', 3, 1, 1, 1, 1 FROM claim",
    ],
)
async def test_the_database_itself_refuses_wrong_books(place: Place, books: str) -> None:
    """The last guards are there, below every function."""
    flavor = FlavorRow(new_id(), "small", Resources(1, 1, 1), 1.0)
    await place.store.items_commit([Item(host=host()), Item(entry=flavor)])
    await claimed(place, instance())
    connection = await asyncpg.connect(place.url)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await connection.execute(books)
    await connection.close()


async def test_a_claim_is_released_once(place: Place) -> None:
    """Twice in one batch, or again later: its resources return once."""
    await place.store.items_commit([Item(host=host())])
    await claimed(place, instance("stays"))
    known = await claimed(place, instance("goes"))
    assert known.holder is not None
    release = Item(
        claims=(
            ClaimChange(
                ClaimAct.REMOVE, known.instance.id, "h1", NOTHING, epoch=known.holder.epoch
            ),
        )
    )
    assert refusals(await place.store.items_commit([release, release])) == ["", "STALE"]
    assert refusals(await place.store.items_commit([release])) == ["NO_CLAIM"]
    check_books(place)


async def test_a_host_greets_once_from_one_look(place: Place) -> None:
    """The incarnation that was seen must still be the live one, in a batch and across batches."""
    again = Item(host=host(seen=1))
    await place.store.items_commit([Item(host=host())])
    assert refusals(await place.store.items_commit([again, again])) == ["", "STALE"]
    assert refusals(await place.store.items_commit([again])) == ["STALE"]
    assert place.sql("SELECT incarnation, version FROM host") == "2|2"
    check_books(place)


async def test_a_flavor_is_written_once_from_one_look(place: Place) -> None:
    """Its version, and its name among the living."""
    row = FlavorRow(new_id(), "small", Resources(1, 1, 1), 1.0)
    twin = replace(row, id=new_id())
    await place.store.items_commit([Item(entry=row)])
    assert refusals(await place.store.items_commit([Item(entry=twin)])) == ["NAME_TAKEN"]
    gone = Item(entry=replace(row, deleted=True, version=1))
    assert refusals(await place.store.items_commit([gone, gone])) == ["", "STALE"]
    assert refusals(await place.store.items_commit([gone])) == ["STALE"]
    check_books(place)


async def test_of_two_words_in_a_batch_the_newer_is_recorded(place: Place) -> None:
    """In whichever order they stand; the older is a duplicate, not a step back."""
    await place.store.items_commit([Item(host=host())])
    known = await claimed(place, instance())
    assert known.holder is not None

    def word(sequence: int) -> Item:
        number = ClaimChange(
            ClaimAct.OBSERVE, known.instance.id, "h1", NOTHING, epoch=known.instance.epoch,
            incarnation=1, sequence=sequence,
        )  # fmt: skip
        return Item(claims=(number,))

    told = await place.store.items_commit([word(2), word(1)])
    assert refusals(told) == ["", "DUPLICATE"]
    told = await place.store.items_commit([word(3), word(4)])
    assert refusals(told) == ["DUPLICATE", ""]
    assert place.sql("SELECT incarnation, sequence FROM claim") == "1|4"
