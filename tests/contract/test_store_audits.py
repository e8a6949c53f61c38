"""What audits read: records as they are beside each other, and what hosts said last."""

from __future__ import annotations

from dataclasses import replace

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.logic.items import ClaimAct, ClaimChange, Committed, Item
from services.conductor.logic.rows import InstanceRow
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ClaimRole
from services.domain.resources import NOTHING, Resources
from services.runtime.ids import new_id
from tests.stores import claim_all, create, host, refusals
from tests.unit.conductor.situations import instance

ENDED = Standing(State.DELETED, Task.NONE)
SIZE = Resources(2, 300, 10)


async def placed(store: PostgresStore, *names: str) -> list[InstanceRow]:
    """Instances on host h1, as they are then."""
    await store.items_commit([Item(host=host())])
    rows = [instance(name, resources=SIZE) for name in names]
    assert refusals(await store.items_commit([create(row) for row in rows])) == [""] * len(rows)
    await claim_all(store, rows)
    found = await store.situations_read([row.id for row in rows])
    return [found[row.id].instance for row in rows]


def said(number: int, *guests: ReportedGuest, host_id: str = "h1", **more: int) -> Inventory:
    """What a host says."""
    incarnation, as_of = more.get("incarnation", 1), more.get("as_of", 0)
    return Inventory(host_id, incarnation, number, as_of, guests)


async def test_ledgers_stand_beside_what_they_should_add_up_to(store: PostgresStore) -> None:
    """Of hosts their claims, of projects their living instances; a page at a time."""
    a, _ = await placed(store, "a", "b")
    await store.items_commit([Item(host=host("h2")), create(instance("c", project_id="q"))])
    (fact,) = await store.audits.host_facts_read("", 1)
    assert (fact.id, fact.used, fact.claimed) == ("h1", (4, 600, 20, 2), (4, 600, 20, 2))
    (empty,) = await store.audits.host_facts_read("h1", 9)
    assert (empty.id, empty.used, empty.claimed) == ("h2", (0, 0, 0, 0), (0, 0, 0, 0))
    assert [f.id for f in await store.audits.host_facts_read("", 9, "h2")] == ["h2"]
    await store.items_commit([Item(instance=replace(a, standing=ENDED))])
    p, q = await store.audits.project_facts_read("", 9)
    assert (p.id, p.used, p.living) == ("p", (2, 300, 10, 1), (2, 300, 10, 1))
    assert (q.id, q.used[3], q.living[3]) == ("q", 1, 1)
    assert [f.id for f in await store.audits.project_facts_read("p", 9)] == ["q"]


async def test_instances_claims_and_operations_stand_beside_each_other(
    store: PostgresStore,
) -> None:
    """In order, a page at a time; what is deleted lives no more, its claim is still told."""
    rows = sorted(await placed(store, "a", "b"), key=lambda row: row.id)
    facts = await store.audits.instance_facts_read("", 9)
    assert [(f.id, f.state, f.task, f.host_id) for f in facts] == [
        (row.id, row.standing.state, row.standing.task, "h1") for row in rows
    ]
    assert [f.holder for f in facts] == [("h1", row.epoch) for row in rows]
    operations = sorted(
        await store.audits.operation_facts_read("", 9), key=lambda fact: fact.resource_id
    )
    assert [f.operation_id for f in facts] == [fact.id for fact in operations]
    assert [(f.of_instance, f.task) for f in operations] == [(True, r.standing.task) for r in rows]
    assert all(f.look_late_s < 5 and f.late_s is not None and f.late_s < 0 for f in operations)
    assert [f.id for f in await store.audits.instance_facts_read(rows[0].id, 9)] == [rows[1].id]
    await store.items_commit([Item(instance=replace(rows[0], standing=ENDED))])
    assert [f.id for f in await store.audits.instance_facts_read("", 9)] == [rows[1].id]
    claims = await store.audits.claim_facts_read(("", 0), 9)
    assert [(c.instance_id, c.epoch, c.role, c.host_id) for c in claims] == [
        (row.id, row.epoch, ClaimRole.HOLDER, "h1") for row in rows
    ]
    assert [c.state for c in claims] == [State.DELETED, rows[1].standing.state]
    after = (rows[0].id, rows[0].epoch)
    assert [c.instance_id for c in await store.audits.claim_facts_read(after, 9)] == [rows[1].id]


async def test_a_host_is_shown_with_its_claims_and_what_it_said_last(store: PostgresStore) -> None:
    """What is claimed, what is there, and what is both; the newest report of the live agent."""
    a, b = await placed(store, "a", "b")
    (nothing,) = await store.audits.host_looks_read(["h1", "h9"])
    assert nothing.report is None
    assert [guest.power for guest in nothing.guests] == [None, None]
    runs, stranger = ReportedGuest(a.id, a.epoch, 3, Power.RUNNING), new_id()
    alien = ReportedGuest(stranger, 77, 1, Power.OFF)
    keep = store.audits.inventory_keep
    assert await keep(said(2, runs, alien, as_of=5))
    assert await keep(said(1)), "a late one is heard and changes nothing"
    assert not await keep(said(3, incarnation=2))
    assert not await keep(said(3, host_id="h9"))
    (look,) = await store.audits.host_looks_read(["h1"])
    assert look.report is not None
    assert (look.report.incarnation, look.report.as_of_revision) == (1, 5)
    found = {guest.instance_id: guest for guest in look.guests}
    assert list(found) == sorted([a.id, b.id, stranger])
    assert (found[a.id].role, found[a.id].power) == (ClaimRole.HOLDER, Power.RUNNING)
    assert found[a.id].applied_generation == 3
    assert (found[b.id].role, found[b.id].power) == (ClaimRole.HOLDER, None)
    assert (found[a.id].state, found[a.id].version) == (a.standing.state, a.version)
    assert (found[stranger].role, found[stranger].power) == (None, Power.OFF)
    assert (found[a.id].newest_epoch, found[stranger].newest_epoch) == (a.epoch, 0)
    assert await keep(said(0, alien)), "a greeting begins anew"
    (look,) = await store.audits.host_looks_read(["h1"])
    assert {g.instance_id for g in look.guests if g.power is not None} == {stranger}


async def test_guests_that_nobody_claims_are_listed_until_they_are_condemned(
    store: PostgresStore,
) -> None:
    """In order, a page at a time, of one host or of all."""
    (a,) = await placed(store, "a")
    await store.items_commit([Item(host=host("h2"))])
    known = ReportedGuest(a.id, a.epoch, 1, Power.RUNNING)
    one, two = ReportedGuest(new_id(), 5, 1, Power.OFF), ReportedGuest(new_id(), 6, 1, Power.OFF)
    await store.audits.inventory_keep(said(1, known, two, one, one))
    # The claim of it is on h1, so on h2 nobody claims it.
    await store.audits.inventory_keep(said(1, known, host_id="h2"))
    read = store.audits.unknown_guests_read
    strangers = sorted(("h1", guest.instance_id, guest.epoch) for guest in (one, two))
    keys = [*strangers, ("h2", a.id, a.epoch)]
    found = await read("", ("", "", 0), 9)
    assert [guest.key for guest in found] == keys
    assert [guest.newest_epoch for guest in found] == [0, 0, a.epoch]
    assert [guest.key for guest in await read("", keys[0], 1)] == keys[1:2]
    assert [guest.key for guest in await read("h2", ("", "", 0), 9)] == keys[2:]
    word = ClaimChange(ClaimAct.CONDEMN, keys[0][1], "h1", NOTHING, epoch=keys[0][2])
    (outcome,) = await store.items_commit([Item(claims=(word,))])
    assert isinstance(outcome, Committed)
    assert [guest.key for guest in await read("", ("", "", 0), 9)] == keys[1:]
