"""The flows as a whole: whatever gets lost, doubled or disordered, every accepted wish ends."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.domain.errors import NotFound, WrongState
from services.domain.instance import Action, Power, State, Task
from tests.engines import Postgres
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import asked, catalog, conductor, new_instance
from tests.integration.conductor.lossy import Cloud, LossyBus
from tests.stores import new_store

INSTANCES = 6
TICKS_MAX = 200


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(min_value=0, max_value=1 << 32))
async def test_every_accepted_wish_ends_whatever_the_bus_does(server: Postgres, seed: int) -> None:
    """Two conductors, three small hosts, a scheduler without sense. Creates and deletes fall in
    between; then the bus heals, and the reconciler alone brings everything to its end.
    """
    random = Random(seed)
    async with contextlib.AsyncExitStack() as stack:
        store, name = await stack.enter_async_context(new_store(server))
        place = Place(server, store, name)
        bus = LossyBus(random)
        made = [await stack.enter_async_context(conductor(place.url, bus)) for _ in range(2)]
        cloud = Cloud(made, bus, random)
        for host in cloud.hosts.values():
            await host.greet()
        await _trouble(cloud, place, random)
        bus.healed = True
        await _settle(cloud, place)
        _check(cloud, place)


async def _trouble(cloud: Cloud, place: Place, random: Random) -> None:
    ids = await catalog(cloud.conductor())
    accepted: list[str] = []
    operations: list[str] = []
    for n in range(INSTANCES):
        one = await cloud.conductor().instances.create(asked(), new_instance(f"n{n}", ids))
        accepted.append(one.resource.id)
        operations.append(one.operation.id)
        for _ in range(random.randrange(3)):
            await _pass_time(place)
            await cloud.tick()
        with contextlib.suppress(WrongState, NotFound):
            await _ask(cloud, random.choice(operations), random.choice(accepted))
        if random.random() < 0.4:
            doomed = random.choice(accepted)
            with contextlib.suppress(LookupError):
                await _delete(cloud, place, doomed)


async def _ask(cloud: Cloud, operation_id: str, instance_id: str) -> None:
    """Something of an instance's power switch, or that its creation is called off; it may be
    refused.
    """
    made = cloud.conductor()
    action = cloud.random.choice((Action.START, Action.STOP, Action.REBOOT, None))
    if action is not None:
        await made.power.switch(asked(action.name), instance_id, action)
    elif cloud.random.random() < 0.5:
        await made.cancels.cancel(asked("cancel_operation"), operation_id)


async def _delete(cloud: Cloud, place: Place, instance_id: str) -> None:
    """Two deletes of one instance through any conductors at once, each with its own request id."""
    if place.sql(f"SELECT deleted FROM instance WHERE id = '{instance_id}'") == "t":
        raise LookupError(instance_id)
    deletes = [
        cloud.conductor().instances.delete(asked("delete_instance"), instance_id) for _ in range(2)
    ]
    answers = await asyncio.gather(*deletes, return_exceptions=True)
    assert any(not isinstance(answer, BaseException) for answer in answers)


async def _pass_time(place: Place) -> None:
    """Every look is due now."""
    await asyncio.to_thread(
        place.sql, "UPDATE operation SET look_again_at = now() WHERE NOT finished"
    )


async def _settle(cloud: Cloud, place: Place) -> None:
    for _ in range(TICKS_MAX):
        await _pass_time(place)
        await cloud.tick()
        open_ = place.sql("SELECT count(*) FROM operation WHERE NOT finished")
        leaving = place.sql("SELECT count(*) FROM claim WHERE role = 3")
        if (open_, leaving) == ("0", "0"):
            return
    raise AssertionError(
        place.sql("SELECT resource_id, action, phase, tries, looks FROM operation")
    )


def _check(cloud: Cloud, place: Place) -> None:
    sql = place.sql
    settled = (State.ACTIVE, State.STOPPED, State.ERROR, State.DELETED)
    held_in = f"({State.ACTIVE.value}, {State.STOPPED.value})"
    assert not sql(
        f"SELECT state, task FROM instance WHERE task <> {Task.NONE.value}"
        f" OR state NOT IN ({', '.join(str(s.value) for s in settled)})"
    )
    assert sql("SELECT count(*) FROM instance") == str(INSTANCES)
    # One holder for each that has a guest, no claim for any other, and the ledger is their sum.
    assert not sql(
        f"SELECT i.id FROM instance i LEFT JOIN claim c ON c.instance_id = i.id GROUP BY i.id"
        f" HAVING count(c.epoch) <> CASE WHEN i.state IN {held_in} THEN 1 ELSE 0 END"
    )
    runs = f"CASE WHEN state = {State.ACTIVE.value} THEN {Power.RUNNING.value} ELSE power END"
    assert not sql(f"SELECT id FROM instance WHERE power <> {runs}")
    check_books(place)
    held = {tuple(line.split("|")) for line in sql("SELECT host_id, epoch FROM claim").split()}
    guests = {(h.id, str(epoch)) for h in cloud.hosts.values() for _, epoch in h.guests}
    assert held <= guests, "what is held is there"
    running = {id_ for h in cloud.hosts.values() for (id_, _), runs in h.guests.items() if runs}
    active = sql(f"SELECT id FROM instance WHERE state = {State.ACTIVE.value}").split()
    stopped = sql(f"SELECT id FROM instance WHERE state = {State.STOPPED.value}").split()
    assert set(active) <= running, "what is ACTIVE runs"
    assert not running & set(stopped), "what is STOPPED does not"


def check_books(place: Place) -> None:
    """The log has no gap, versions neither, and every host's ledger is the sum of its claims."""
    sql = place.sql
    assert sql("SELECT count(*) = max(revision) FROM change") == "t"
    assert sql("SELECT (SELECT max(revision) FROM change) = revision FROM counter") == "t"
    assert not sql("SELECT kind, id FROM change GROUP BY kind, id HAVING count(*) <> max(version)")
    assert not sql(
        "SELECT h.id FROM host h LEFT JOIN claim c ON c.host_id = h.id GROUP BY h.id"
        " HAVING (h.used_vcpus, h.used_memory_mib, h.used_disk_gib, h.claim_count) IS DISTINCT FROM"
        " (coalesce(sum(c.vcpus), 0), coalesce(sum(c.memory_mib), 0),"
        " coalesce(sum(c.disk_gib), 0), count(c.epoch))"
    )
    assert not sql("SELECT id FROM host WHERE used_vcpus > target_vcpus")
    for table in ("instance", "operation", "host"):
        assert not sql(
            f"SELECT t.id FROM {table} t JOIN change c ON c.id = t.id::text"
            " GROUP BY t.id, t.version, t.revision"
            " HAVING (max(c.version), max(c.revision)) <> (t.version, t.revision)"
        )
