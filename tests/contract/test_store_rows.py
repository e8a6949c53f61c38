"""What rows of issue three keep: names that change, editions of hosts, key pairs, times and traces;
and what a database of the release before becomes.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import asyncpg

from services.conductor.edges.store import codec
from services.conductor.edges.store.migrate import migrate, migrations
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Committed, Item
from services.conductor.logic.rows import InstanceRow
from services.domain.instance import Standing, State, Task
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts, Resources
from services.domain.trace import Trace
from services.runtime.ids import new_id
from tests.engines import Postgres
from tests.stores import CLOUD, claim_all, create, host, key_pair, refusals
from tests.unit.conductor.situations import instance


async def known(store: PostgresStore, row: InstanceRow) -> InstanceRow:
    """The row as it is now."""
    return (await store.situations_read([row.id]))[row.id].instance


async def renamed(store: PostgresStore, row: InstanceRow, name: str) -> Item:
    """An update of its name."""
    return Item(instance=replace(await known(store, row), name=name))


async def test_a_new_name_is_taken_once_among_the_living(store: PostgresStore) -> None:
    """Whether by a create or a rename, in one batch and across batches; keeping one's own is no
    taking.
    """
    a, b, c = rows = [instance(name) for name in "abc"]
    await store.items_commit([create(row) for row in rows])
    items = [await renamed(store, a, "b"), await renamed(store, b, "b")]
    assert refusals(await store.items_commit(items)) == ["NAME_TAKEN", ""]
    items = [await renamed(store, a, "d"), await renamed(store, b, "d"), create(instance("d"))]
    assert refusals(await store.items_commit(items)) == ["", "STALE", "STALE"]
    assert refusals(await store.items_commit([await renamed(store, b, "d")])) == ["NAME_TAKEN"]
    assert refusals(await store.items_commit([create(instance("a"))])) == [""]
    gone = replace(await known(store, c), standing=Standing(State.DELETED, Task.NONE))
    assert refusals(await store.items_commit([Item(instance=gone)])) == [""]
    assert refusals(await store.items_commit([await renamed(store, b, "c")])) == [""]
    assert (await known(store, b)).name == "c"


async def test_names_that_change_hands_in_one_commit_are_not_mixed_up(
    store: PostgresStore,
) -> None:
    """A name is free only when its holder has committed another."""
    a, b = rows = [instance(name) for name in "ab"]
    await store.items_commit([create(row) for row in rows])
    swap = [await renamed(store, a, "b"), await renamed(store, b, "a")]
    assert refusals(await store.items_commit(swap)) == ["NAME_TAKEN", "NAME_TAKEN"]


async def test_two_conductors_that_rename_to_one_name_do_it_once(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """The last guard is the index."""
    other = PostgresStore(server.url(database))
    for n in range(20):
        rows = [instance(f"a{n}"), instance(f"b{n}")]
        await store.items_commit([create(row) for row in rows])
        items = [await renamed(store, row, f"c{n}") for row in rows]
        both = await asyncio.gather(store.items_commit(items[:1]), other.items_commit(items[1:]))
        first, second = sorted([*refusals(both[0]), *refusals(both[1])])
        assert not first
        assert second in ("NAME_TAKEN", "STALE")
    await other.close()


async def test_a_greeting_and_a_disabling_at_once_do_not_undo_each_other(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """Each is written upon the edition that it saw; who comes second looks again."""
    other = PostgresStore(server.url(database))
    await store.items_commit([Item(host=host())])
    for incarnation in range(2, 12):
        seen = (await store.hosts_read(["h1"]))["h1"]
        disable = replace(seen, enabled=not seen.enabled, disabled_reason="broken fan")
        greet = replace(seen, incarnation=incarnation, boot_id=f"boot {incarnation}")
        both = await asyncio.gather(
            store.items_commit([Item(host=disable)]), other.items_commit([Item(host=greet)])
        )
        assert sorted([*refusals(both[0]), *refusals(both[1])]) == ["", "STALE"]
        late = greet if refusals(both[1]) == ["STALE"] else disable
        now = (await store.hosts_read(["h1"]))["h1"]
        late = replace(
            now, incarnation=max(now.incarnation, late.incarnation),
            enabled=late.enabled if late is disable else now.enabled,
        )  # fmt: skip
        assert refusals(await store.items_commit([Item(host=late)])) == [""]
        row = (await store.hosts_read(["h1"]))["h1"]
        assert (row.incarnation, row.enabled) == (incarnation, not seen.enabled)
        assert row.seen_edition == seen.seen_edition + 2
        assert row.disabled_reason == "broken fan"
    await other.close()


async def test_only_a_new_incarnation_renews_the_lease(
    store: PostgresStore, server: Postgres, database: str
) -> None:
    """What an admin or the reconciler says of a host is no sign of its life."""
    await store.items_commit([Item(host=host())])
    server.sql("UPDATE lease SET beat_at = now() - interval '1 hour'", database)
    row = (await store.hosts_read(["h1"]))["h1"]
    await store.items_commit([Item(host=replace(row, enabled=False))])
    assert (await store.silences_read(["h1"]))["h1"] > 45.0
    row = (await store.hosts_read(["h1"]))["h1"]
    await store.items_commit([Item(host=replace(row, incarnation=2))])
    assert (await store.silences_read(["h1"]))["h1"] < 45.0


async def test_claims_do_not_age_what_was_read_of_a_host(store: PostgresStore) -> None:
    """The ledger is written beside what is said of the host, not over it."""
    await store.items_commit([Item(host=host())])
    seen = (await store.hosts_read(["h1"]))["h1"]
    row = instance()
    await store.items_commit([create(row)])
    assert refusals(await claim_all(store, [row])) == [""]
    assert refusals(await store.items_commit([Item(host=replace(seen, enabled=False))])) == [""]


async def test_key_pairs_are_kept_by_project(store: PostgresStore) -> None:
    """A name is unique in its project; others neither see nor block it; read back whole."""
    mine, theirs = key_pair(), key_pair(project_id="q")
    twin = key_pair()
    outcomes = await store.items_commit([Item(entry=row) for row in (mine, theirs, twin)])
    assert refusals(outcomes) == ["", "", "STALE"]
    assert refusals(await store.items_commit([Item(entry=twin)])) == ["NAME_TAKEN"]
    assert isinstance(outcomes[0], Committed)
    (told,) = outcomes[0].records
    assert (told.kind, told.project_id, told.public) == (ResourceKind.KEY_PAIR, "p", False)
    wanted = [(ResourceKind.KEY_PAIR, mine.id), (ResourceKind.FLAVOR, mine.id)]
    assert await store.catalog_read(wanted) == {wanted[0]: replace(mine, version=1, revision=1)}
    (page,) = await store.records_read([Query(ResourceKind.KEY_PAIR, "", "p", "", 9)])
    assert [one.id for one in page.records] == [mine.id]
    (page,) = await store.records_read([Query(ResourceKind.KEY_PAIR, theirs.id, "p", "", 1)])
    assert page.records == ()


async def test_grace_and_trace_are_read_as_they_were_written(store: PostgresStore) -> None:
    """With the instance and the operation."""
    row = instance()
    item = create(replace(row, wanted=replace(row.wanted, grace_s=77)))
    trace = Trace("call-1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    item = replace(item, operations=(replace(item.operations[0], trace=trace),))
    await store.items_commit([item])
    situation = (await store.situations_read([row.id]))[row.id]
    assert situation.operation is not None
    assert (situation.instance.wanted.grace_s, situation.operation.trace) == (77, trace)


OLD_INSTANCE = """
INSERT INTO instance (id, project_id, name, state, task, power, host_id, flavor_id, image_id,
                      generation, epoch, attempt, excluded_host_ids, deleted, version, revision,
                      wanted, body)
VALUES ($1, $2, $3, 3, 1, 1, '', '', '', 1, 0, 1, '{}', $4, 1, $5, $6, $7)
"""


async def older(server: Postgres, old: list[InstanceRow], name: str = "older") -> None:
    """A database as the release before left it, with these instances."""
    server.sql(f"CREATE DATABASE {name}")
    connection = await asyncpg.connect(server.url(name))
    await connection.execute(
        "CREATE TABLE schema_migration (number integer PRIMARY KEY, name text NOT NULL,"
        " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for number, title, sql in migrations()[:2]:
        await connection.execute(sql)
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        await connection.execute(
            "INSERT INTO schema_migration VALUES ($1, $2, $3)", number, title, checksum
        )
    for n, row in enumerate(old, start=1):
        spec = codec.spec_of(replace(row, wanted=replace(row.wanted, user_data=b"\xff" * 300)))
        await connection.execute(
            OLD_INSTANCE, row.id, row.project_id, row.name, row.deleted, n,
            spec.SerializeToString(), codec.instance_body(row),
        )  # fmt: skip
    await connection.execute("UPDATE counter SET revision = 4")
    await connection.close()


async def test_a_database_of_the_release_before_goes_on(server: Postgres) -> None:
    """What its projects use is counted from the stored specs; its hosts, names and versions stay;
    its log begins anew above the head.
    """
    old = [
        instance("a", resources=Resources(200, 1 << 35, 3)),
        instance("b", resources=Resources(1, 0, 0)),
        instance("c", project_id="q"),
        instance("d", standing=Standing(State.DELETED, Task.NONE)),
    ]
    await older(server, old)
    await migrate(server.url("older"), CLOUD)
    store = PostgresStore(server.url("older"), usual_limits=QuotaAmounts(2, -1, -1, -1))
    projects = await store.projects_read(["p", "q"])
    assert projects["p"].used == QuotaAmounts(2, 201, 1 << 35, 3)
    assert projects["q"].used == QuotaAmounts(1, 1, 100, 1)
    log = await store.changes_read(4, 10)
    assert (log.records, log.head_revision, log.compacted_revision) == ((), 4, 4)
    assert refusals(await store.items_commit([create(instance("e"))])) == ["NO_QUOTA"]
    end = replace(await known(store, old[0]), standing=Standing(State.DELETED, Task.NONE))
    assert refusals(await store.items_commit([Item(instance=end)])) == [""]
    assert (await store.projects_read(["p"]))["p"].used == QuotaAmounts(1, 1, 0, 0)
    log = await store.changes_read(4, 10)
    assert [(r.id, r.revision, r.before and r.before.revision) for r in log.records] == [
        (old[0].id, 5, 1)
    ]
    await store.close()


# What pages are joined by outside of the database, and what goes before or beside it in a lock.
BY_BYTES = {
    "host.id", "claim.host_id", "lease.host_id", "host_write.id", "claim_write.host_id",
    "instance.name", "catalog.name", "project.id", "change.id", "change.moved_from",
}  # fmt: skip


async def test_names_and_text_ids_are_compared_by_their_bytes(
    server: Postgres, database: str
) -> None:
    """Also in a database whose own order is another, where pages of hosts would lose some."""
    found = server.sql(
        "SELECT attrelid::regclass || '.' || attname FROM pg_attribute"
        " WHERE attcollation = '\"C\"'::regcollation AND attrelid >= 16384",
        database,
    )
    assert set(found.split()) >= BY_BYTES


async def test_batches_of_the_release_before_are_remembered_as_a_whole(server: Postgres) -> None:
    """Another one under the request id makes nothing either; the same one goes on."""
    await older(server, [], "batches")
    request_id = new_id()
    server.sql(
        "INSERT INTO request VALUES"
        f" ('p', 'me', 'BatchCreateInstances#1', '{request_id}', 'f', '{new_id()}', '{new_id()}')",
        "batches",
    )
    await migrate(server.url("batches"), CLOUD)
    store = PostgresStore(server.url("batches"))
    items = [
        of_batch(create(instance(name), request_id, fingerprint), place)
        for name, fingerprint, place in (("a", b"g", 0), ("b", b"f", 0), ("c", b"f", 1))
    ]
    told = [refusals(await store.items_commit([item])) for item in items]
    assert told == [["REQUEST_ID_REUSED"], [""], ["REPLAYED"]]
    await store.close()


def of_batch(item: Item, place: int) -> Item:
    """The same as one of a batch."""
    assert item.request is not None
    method = f"BatchCreateInstances#{place}"
    return replace(item, request=replace(item.request, method=method, batch="BatchCreateInstances"))


async def test_of_two_batches_under_one_request_id_only_one_is_committed(
    store: PostgresStore,
) -> None:
    """In one commit the later waits for what becomes of the earlier."""
    await store.items_commit([create(instance("taken"))])
    request_id = new_id()
    wished = [("taken", b"f", 0), ("a", b"f", 1), ("x", b"g", 0), ("b", b"f", 2), ("y", b"g", 1)]
    items = [
        of_batch(create(instance(name), request_id, fingerprint), place)
        for name, fingerprint, place in wished
    ]
    told = refusals(await store.items_commit(items))
    assert told == ["NAME_TAKEN", "", "STALE", "", "STALE"]
    told = refusals(await store.items_commit(items))
    reused = "REQUEST_ID_REUSED"
    assert told == ["NAME_TAKEN", "REPLAYED", reused, "REPLAYED", reused]
