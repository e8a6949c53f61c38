"""Start, stop, reboot, update and cancel over the real store: what hosts are told, how it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from services.conductor.flows.accept_instance import InstanceChanges
from services.conductor.flows.answer import Asked
from services.conductor.flows.decide import Decision
from services.conductor.flows.ports import Query
from services.conductor.logic.rows import Situation
from services.domain.errors import (
    AlreadyExists,
    CloudError,
    Conflict,
    Invalid,
    NotFound,
    Unsupported,
    WrongState,
)
from services.domain.etag import etag_of
from services.domain.instance import Action, Power, Standing, State, Task
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationState
from services.domain.resources import Resources
from services.domain.trace import Trace
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import (
    Conductor,
    Sent,
    asked,
    catalog,
    conductor,
    hello,
    new_instance,
)
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.test_known import until
from tests.integration.conductor.wishes import look, prepared, running

POWER = tuple(set(Action) - {Action.DELETE, Action.UPDATE})
TRACE = Trace("req-7", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


async def situation(made: Conductor, instance_id: str) -> Situation:
    return (await made.store.situations_read([instance_id]))[instance_id]


async def standing(made: Conductor, instance_id: str) -> tuple[State, Task]:
    found = (await situation(made, instance_id)).instance.standing
    return found.state, found.task


async def apply(made: Conductor, instance_id: str, power: Power, sequence: int = 9) -> None:
    """h1 has made what is wanted."""
    generation = (await situation(made, instance_id)).instance.generation
    told = await look(made, instance_id, sequence, power=power, applied_generation=generation)
    await made.observer.observe([told])


def ended(place: Place, operation_id: str) -> str:
    return place.sql(f"SELECT state FROM operation WHERE id = '{operation_id}'")


async def test_each_turn_of_the_switch_ends_when_the_host_has_made_it(place: Place) -> None:
    bus = Sent()
    async with conductor(place.url, bus) as made:
        ground = await prepared(made)
        one = ground.active_id
        bus.commands.clear()
        for n, (action, power, state) in enumerate(
            (
                (Action.STOP, Power.OFF, State.STOPPED),
                (Action.START, Power.RUNNING, State.ACTIVE),
                (Action.REBOOT, Power.RUNNING, State.ACTIVE),
                (Action.PAUSE, Power.PAUSED, State.PAUSED),
                (Action.UNPAUSE, Power.RUNNING, State.ACTIVE),
                (Action.SUSPEND, Power.SUSPENDED, State.SUSPENDED),
                (Action.RESUME, Power.RUNNING, State.ACTIVE),
                (Action.PAUSE, Power.PAUSED, State.PAUSED),
                (Action.HARD_REBOOT, Power.RUNNING, State.ACTIVE),
            ),
            start=1,
        ):
            accepted = await made.power.switch(asked(action.name), one, action, grace_s=30)
            await until(lambda n=n: len(bus.commands) == n)
            _, _, row, claim = bus.commands[-1]
            assert (row.wanted.power, row.wanted.grace_s) == (power, 30)
            assert claim.wanted_revision == row.revision, "the wish is newer than what is known"
            await apply(made, one, power, 10 + n)
            assert await standing(made, one) == (state, Task.NONE)
            assert ended(place, accepted.operation.id) == str(OperationState.DONE.value)
        assert (await situation(made, one)).instance.wanted.boot == 3
        check_books(place)


@pytest.mark.parametrize("action", POWER)
async def test_while_one_is_under_way_another_is_refused(place: Place, action: Action) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        one = ground.of(action)
        await made.power.switch(asked("first"), one, action)
        for second in POWER:
            with pytest.raises(WrongState) as caught:
                await made.power.switch(asked("second"), one, second)
            assert caught.value.reason == "OPERATION_UNDER_WAY"
            assert caught.value.metadata["action"] == second.name


async def test_of_two_stops_at_once_one_is_under_way(place: Place) -> None:
    """Through two conductors: the other is told so."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        ground = await prepared(one)
        answers = await asyncio.gather(
            *(m.power.switch(asked("stop"), ground.active_id, Action.STOP) for m in (one, two)),
            return_exceptions=True,
        )
        (refused,) = (a for a in answers if isinstance(a, CloudError))
        assert refused.reason == "OPERATION_UNDER_WAY"
        check_books(place)


async def test_a_failure_of_the_host_fails_the_operation_and_is_not_tried_again(
    place: Place,
) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        one = ground.stopped_id
        accepted = await made.power.switch(asked("start"), one, Action.START)
        told = await look(made, one, 9, power=Power.OFF, failure=("IMAGE_ROTTEN", "it is"))
        await made.observer.observe([told])
        assert await standing(made, one) == (State.STOPPED, Task.NONE)
        assert ended(place, accepted.operation.id) == str(OperationState.FAILED.value)
        row = (await situation(made, one)).instance
        assert not row.wanted.run
        assert row.generation == 4
        query = Query(ResourceKind.OPERATION, accepted.operation.id, "", "", 1)
        (page,) = await made.store.records_read([query])
        assert b"IMAGE_ROTTEN" in page.records[0].body


async def test_a_delete_cancels_the_reboot_under_way(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        one = ground.active_id
        reboot = await made.power.switch(asked("reboot"), one, Action.REBOOT, grace_s=3600)
        await made.instances.delete(asked("delete_instance"), one)
        assert ended(place, reboot.operation.id) == str(OperationState.CANCELLED.value)
        assert await standing(made, one) == (State.ACTIVE, Task.DELETING)
        assert (await situation(made, one)).instance.wanted.grace_s == 0
        check_books(place)


async def test_while_its_host_is_down_a_start_waits_and_ends_when_it_is_back(place: Place) -> None:
    bus = Sent()
    async with conductor(place.url, bus) as made:
        ground = await prepared(made)
        place.sql("UPDATE host SET state = 2")
        bus.commands.clear()
        accepted = await made.power.switch(asked("start"), ground.stopped_id, Action.START)
        place.sql("UPDATE operation SET look_again_at = now() WHERE NOT finished")
        await made.advancer.reconcile()
        await asyncio.sleep(0.2)
        assert not bus.commands
        view = await made.greeter.greet(hello())
        (row,) = (row for row, _ in view.wanted if row.id == ground.stopped_id)
        assert row.wanted.run
        await apply(made, ground.stopped_id, Power.RUNNING, 1)
        assert ended(place, accepted.operation.id) == str(OperationState.DONE.value)


async def test_every_action_in_every_standing_is_answered_as_the_table_says(place: Place) -> None:
    """Instances in each standing that there is; each refusal with code and reason."""
    async with conductor(place.url, Sent()) as made:
        there = await everywhere(made)
        for (state, task), instance_id in there.items():
            for action in Action:
                dry = replace(asked(action.name), validate_only=True)
                reason = await answer(made, dry, instance_id, action)
                assert reason == expected(state, task, action), (state, task, action)


def expected(state: State, task: Task, action: Action) -> str:
    """The reason of the refusal, empty where it is accepted."""
    if state is State.DELETED:
        return "INSTANCE_NOT_FOUND"
    if task is Task.DELETING:
        return "" if action is Action.DELETE else "INVALID_INSTANCE_STATE"
    if action in (Action.DELETE, Action.UPDATE):
        return ""
    if task is not Task.NONE:
        return "OPERATION_UNDER_WAY"
    legal = {
        State.STOPPED: (Action.START, Action.HARD_REBOOT),
        State.PAUSED: (Action.UNPAUSE, Action.HARD_REBOOT),
        State.SUSPENDED: (Action.RESUME, Action.HARD_REBOOT),
        State.ACTIVE: (
            Action.STOP, Action.REBOOT, Action.HARD_REBOOT, Action.PAUSE, Action.SUSPEND,
        ),
    }  # fmt: skip
    return "" if action in legal.get(state, ()) else "INVALID_INSTANCE_STATE"


async def answer(made: Conductor, dry: Asked, instance_id: str, action: Action) -> str:
    try:
        if action is Action.DELETE:
            await made.instances.delete(dry, instance_id)
        elif action is Action.UPDATE:
            changes = InstanceChanges("", {"a": "b"}, ("labels",), "")
            await made.instances.update(dry, instance_id, changes)
        else:
            await made.power.switch(dry, instance_id, action)
    except WrongState as error:
        return error.reason
    except NotFound as error:
        return error.reason
    return ""


async def everywhere(made: Conductor) -> dict[tuple[State, Task], str]:
    """One instance in each standing that can last, brought there as users and hosts do."""
    await made.greeter.greet(hello("h1", Resources(100, 10_000, 1000)))
    ids = await catalog(made)
    ways = [
        ("requested", None), ("building", None), ("active", None), ("stopped", None),
        ("active", Action.STOP), ("active", Action.REBOOT), ("stopped", Action.START),
        ("error", None), ("requested", Action.DELETE), ("building", Action.DELETE),
        ("active", Action.DELETE), ("stopped", Action.DELETE),
        ("paused", None), ("suspended", None), ("active", Action.PAUSE),
        ("active", Action.SUSPEND), ("paused", Action.UNPAUSE), ("suspended", Action.RESUME),
        *((way, Action.HARD_REBOOT) for way in ("stopped", "paused", "suspended")),
        ("paused", Action.DELETE), ("suspended", Action.DELETE),
    ]  # fmt: skip
    there: dict[tuple[State, Task], str] = {}
    for n, (way, action) in enumerate(ways):
        instance_id = await brought(made, f"n{n}", ids, way)
        if action is Action.DELETE:
            await made.instances.delete(asked("delete_instance"), instance_id)
        elif action is not None:
            await made.power.switch(asked(action.name), instance_id, action)
        there[await standing(made, instance_id)] = instance_id
    assert len(there) == len(ways)
    return there


RESTING = {
    "active": Power.RUNNING,
    "stopped": Power.OFF,
    "paused": Power.PAUSED,
    "suspended": Power.SUSPENDED,
}


async def brought(made: Conductor, name: str, ids: tuple[str, str], way: str) -> str:
    if way in RESTING:
        instance_id = await running(made, name, ids)
        told = await look(made, instance_id, 2, power=RESTING[way], applied_generation=1)
        await made.observer.observe([told])
        return instance_id
    accepted = await made.instances.create(asked(), new_instance(name, ids))
    if way == "building":
        await made.decider.decide([Decision(accepted.resource.id, 1, "h1", 1, {})])
    if way == "error":
        await made.decider.decide([Decision(accepted.resource.id, 1, "", 1, {"up": 1})])
    return accepted.resource.id


async def test_an_update_needs_the_etag_that_was_read(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        one = ground.active_id
        version = (await situation(made, one)).instance.version
        good, bad = etag_of(one, version), etag_of(one, version - 1)
        request = asked("update_instance")
        with pytest.raises(Conflict) as caught:
            await made.instances.update(request, one, InstanceChanges("b", {}, ("name",), bad))
        assert caught.value.reason == "ETAG_MISMATCH"
        changes = InstanceChanges("b", {"x": "y"}, ("*",), good)
        first = await made.instances.update(request, one, changes)
        again = await made.instances.update(request, one, changes)
        assert again.operation.id == first.operation.id, "its own etag is no obstacle to a replay"
        row = (await situation(made, one)).instance
        assert (row.name, row.labels, row.version) == ("b", {"x": "y"}, version + 1)


async def test_an_update_changes_what_its_mask_names_and_nothing_that_is_wanted(
    place: Place,
) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        one = ground.active_id
        before = (await situation(made, one)).instance
        await made.instances.update(
            asked("u"), one, InstanceChanges("ignored", {"x": "y"}, ("labels",), "")
        )
        row = (await situation(made, one)).instance
        assert (row.name, row.labels) == (before.name, {"x": "y"})
        assert row.generation == before.generation
        for mask, name, field in (
            ((), "b", "update_mask"),
            (("state",), "b", "update_mask"),
            (("name",), "", "name"),
        ):
            with pytest.raises(Invalid) as caught:
                await made.instances.update(asked("u"), one, InstanceChanges(name, {}, mask, ""))
            assert (caught.value.reason, caught.value.field) == ("INVALID_FIELD", field)


async def test_a_name_moves_with_its_instance(place: Place) -> None:
    """A taken one is refused, an old one is free again; of two that want one, one gets it."""
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)

        async def rename(instance_id: str, name: str) -> str:
            changes = InstanceChanges(name, {}, ("name",), "")
            try:
                await made.instances.update(asked("update_instance"), instance_id, changes)
            except AlreadyExists as error:
                return f"{error.reason} {error.field}"
            return ""

        assert await rename(ground.active_id, "rests") == "NAME_TAKEN name"
        both = await asyncio.gather(
            rename(ground.active_id, "one"), rename(ground.stopped_id, "one")
        )
        assert sorted(both) == ["", "NAME_TAKEN name"]
        ids = (ground.flavor_id, ground.image_id)
        freed = "rests" if both[1] == "" else "runs"
        await made.instances.create(asked(), new_instance(freed, ids))
        assert await rename(ground.active_id, "one" if both[0] == "" else "two") == ""
        check_books(place)


async def test_a_create_is_called_off_while_it_waits_for_a_host(place: Place) -> None:
    """CANCELLED and DELETED in one commit; the instance counts for no quota any more."""
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        request = asked("cancel_operation")
        first = await made.cancels.cancel(request, ground.placing_operation_id)
        assert first.resource == first.operation
        assert b"CANCELLED_BY_CALLER" in first.operation.body
        again = await made.cancels.cancel(request, ground.placing_operation_id)
        assert again.operation.revision == first.operation.revision
        assert place.sql("SELECT state FROM instance WHERE name = 'waits'") == str(
            State.DELETED.value
        )
        for operation_id in (ground.placing_operation_id, first.operation.id):
            with pytest.raises(WrongState) as caught:
                await made.cancels.cancel(asked("cancel_operation"), operation_id)
            assert caught.value.reason == "OPERATION_NOT_CANCELLABLE"
        with pytest.raises(NotFound) as missing:
            await made.cancels.cancel(asked("cancel_operation"), ground.active_id)
        assert missing.value.reason == "OPERATION_NOT_FOUND"
        check_books(place)


async def test_a_cancel_and_a_claim_that_cross_have_one_winner(place: Place) -> None:
    """Through two conductors: called off and without a claim, or building and not cancellable."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        await one.greeter.greet(hello())
        ids = await catalog(one)
        for n in range(12):
            accepted = await one.instances.create(asked(), new_instance(f"n{n}", ids))
            instance_id = accepted.resource.id
            _, cancelled = await asyncio.gather(
                two.decider.decide([Decision(instance_id, 1, "h1", 1, {})]),
                one.cancels.cancel(asked("cancel_operation"), accepted.operation.id),
                return_exceptions=True,
            )
            found = await situation(one, instance_id)
            if isinstance(cancelled, CloudError):
                assert cancelled.reason == "OPERATION_NOT_CANCELLABLE"
                assert found.instance.standing.state is State.BUILDING
                await one.instances.delete(asked("delete_instance"), instance_id)
                gone = await look(one, instance_id, 1, absent=True, power=Power.OFF)
                await one.observer.observe([gone])
            else:
                assert found.instance.standing == Standing(State.DELETED, Task.NONE)
                assert not found.claims
        assert place.sql("SELECT used_vcpus, claim_count FROM host") == "0|0"
        check_books(place)


async def test_the_trace_of_a_call_reaches_row_log_scheduler_and_host(place: Place) -> None:
    bus = Sent()
    async with conductor(place.url, bus) as made:
        await made.greeter.greet(hello())
        ids = await catalog(made)
        request = replace(asked(), trace=TRACE)
        with capture_logs() as lines:
            accepted = await made.instances.create(request, new_instance("n", ids))
            await until(lambda: bus.places)
            await made.decider.decide([Decision(accepted.resource.id, 1, "h1", 1, {})])
            await until(lambda: bus.commands)
            await made.instances.delete(asked("delete_instance"), accepted.resource.id)
        told = {line["event"] for line in lines if line.get("correlation_id") == "req-7"}
        assert told == {"accepted", "operation ended"}
        assert bus.traces[:2] == [TRACE, TRACE]
        assert b"req-7" in accepted.operation.body


@pytest.mark.parametrize(
    "action", [Action.PAUSE, Action.UNPAUSE, Action.SUSPEND, Action.RESUME], ids=lambda a: a.name
)
async def test_what_the_hosts_driver_cannot_do_is_refused_and_changes_nothing(
    place: Place, action: Action
) -> None:
    """An agent that says nothing of it cannot. DRIVER_CAPABILITY_MISSING."""
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        await made.greeter.greet(replace(hello("h1"), capabilities=b""))
        before = place.sql("SELECT revision FROM counter")
        with pytest.raises(Unsupported) as refused:
            await made.power.switch(asked(action.name), ground.of(action), action)
        assert refused.value.reason == "DRIVER_CAPABILITY_MISSING"
        assert place.sql("SELECT revision FROM counter") == before
