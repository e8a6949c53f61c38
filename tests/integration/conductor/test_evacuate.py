"""Hosts that are dead: fenced, left, come back, removed. MECHANICS C3, C5, C6, C7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.conductor.edges import messages
from services.conductor.flows.accept_evacuate import EvacuationAcceptor
from services.conductor.flows.accept_host import HostAcceptor
from services.conductor.flows.decide import Decision
from services.conductor.logic.items import ClaimAct, ClaimChange, Committed, Item
from services.conductor.logic.leases import Beat
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import Caller, HostRow, Situation
from services.conductor.logic.steps import MoveOn
from services.domain.errors import Conflict, WrongState
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ClaimRole, HostState
from services.domain.observation import ObservationOutcome
from services.domain.operation import OperationState
from services.domain.resources import NOTHING
from services.runtime.ids import new_id
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
from tests.integration.conductor.test_hosts import active, deleted, seen

ADMIN = Caller("ann", "ops", cloud_admin=True)


def evacuations(made: Conductor) -> EvacuationAcceptor:
    return EvacuationAcceptor(made.acceptance, made.advancer)


def hosts(made: Conductor) -> HostAcceptor:
    return HostAcceptor(made.acceptance)


async def look(made: Conductor, instance_id: str) -> Situation:
    return (await made.store.situations_read([instance_id]))[instance_id]


async def evacuate(made: Conductor, instance_id: str) -> None:
    await evacuations(made).evacuate(replace(asked("evacuate_instance"), caller=ADMIN), instance_id)


async def fence(made: Conductor, host_id: str = "h1") -> None:
    order = replace(asked("fence_host"), caller=ADMIN)
    await hosts(made).fence(order, host_id, "pulled the plug")


async def refusal(made: Conductor, instance_id: str) -> str:
    with pytest.raises(WrongState) as refused:
        await evacuate(made, instance_id)
    return refused.value.reason


def silence(place: Place, host_id: str = "h1") -> None:
    """Its lease has lapsed, and that is recorded."""
    place.sql(f"UPDATE lease SET beat_at = now() - interval '1 h' WHERE host_id = '{host_id}'")
    place.sql(f"UPDATE host SET state = 2 WHERE id = '{host_id}'")


async def test_a_host_that_is_heard_of_is_neither_fenced_nor_removed_whatever_its_state(
    place: Place,
) -> None:
    """UNKNOWN since its bus is silent, or DOWN since nobody has compared yet: its lease is live."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        for state in (HostState.UNKNOWN, HostState.DOWN):
            row = (await made.store.hosts_read(["h1"]))["h1"]
            await made.committer.commit(Item(host=replace(row, state=state)))
            assert (await made.store.hosts_read(["h1"]))["h1"].state is state
            for refused in (fence(made), hosts(made).remove(asked("remove_host"), "h1")):
                with pytest.raises(WrongState) as why:
                    await refused
                assert why.value.reason == "HOST_NOT_DOWN"


async def test_a_host_that_beats_again_is_not_put_down(place: Place) -> None:
    """Its sign of life came after the first look at the leases. MECHANICS D5."""
    async with conductor(place.url, Sent()) as made:
        for name in ("h1", "h2", "h3"):
            await made.greeter.greet(hello(name))
        place.sql("UPDATE lease SET beat_at = now() - interval '1 h' WHERE host_id = 'h1'")
        place.sql("UPDATE road SET since_at = now() - interval '1 h', last_at = now()")
        read = made.store.hosts_read

        async def beat_meanwhile(host_ids: Sequence[str]) -> dict[str, HostRow]:
            await made.leaser.beat([Beat("h1", 1)])
            return await read(host_ids)

        made.store.hosts_read = beat_meanwhile  # type: ignore[method-assign]  # the moment is the point
        await made.leaser.compare()
        assert place.sql("SELECT state FROM host WHERE id = 'h1'") == "1"


async def test_what_failed_to_leave_does_not_leave_again_once_its_host_is_back(
    place: Place,
) -> None:
    """The host that has its disk said Hello, which ended the fence: its guest may run still.
    MECHANICS C5.
    """
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        await down(made, place)
        await fence(made)
        await evacuate(made, instance_id)
        left = await look(made, instance_id)
        await made.decider.decide([Decision(instance_id, left.instance.attempt, "", 1, {})])
        assert (await look(made, instance_id)).instance.standing.state is State.ERROR
        await made.greeter.greet(hello())
        assert await refusal(made, instance_id) == "HOST_NOT_DOWN"
        await down(made, place)
        assert await refusal(made, instance_id) == "HOST_NOT_FENCED"
        await fence(made)
        await evacuate(made, instance_id)


async def down(made: Conductor, place: Place) -> None:
    """h1 is DOWN, as the leases say."""
    place.sql("UPDATE lease SET beat_at = now() - interval '1 h' WHERE host_id = 'h1'")
    place.sql("UPDATE road SET since_at = now() - interval '1 h', last_at = now()")
    await made.leaser.compare()
    assert place.sql("SELECT state FROM host WHERE id = 'h1'") == "2"


async def test_an_instance_leaves_a_host_that_is_down_and_fenced_and_no_other(
    place: Place,
) -> None:
    """Refused with the reason while the host is UP or nobody vouches; then built elsewhere under a
    higher epoch, and the old claim stays.
    """
    async with conductor(place.url, Sent()) as made:
        for name in ("h1", "h2", "h3"):
            await made.greeter.greet(hello(name))
        instance_id = await active(made)
        old = (await look(made, instance_id)).holder
        assert old is not None
        assert await refusal(made, instance_id) == "HOST_NOT_DOWN"
        with pytest.raises(WrongState) as refused:
            await fence(made)
        assert refused.value.reason == "HOST_NOT_DOWN"
        await down(made, place)
        assert await refusal(made, instance_id) == "HOST_NOT_FENCED"
        await fence(made)
        await evacuate(made, instance_id)
        left = await look(made, instance_id)
        assert left.instance.standing == Standing(State.ACTIVE, Task.EVACUATING)
        assert [(c.role, c.discard) for c in left.claims] == [(ClaimRole.LEAVING, False)]
        assert left.operation is not None
        assert left.operation.progress == "its host is dead", "a tenant is told no host's name"
        assert "h1" in left.instance.excluded_host_ids
        assert await refusal(made, instance_id) == "OPERATION_UNDER_WAY"

        await made.decider.decide([Decision(instance_id, left.instance.attempt, "h2", 1, {})])
        built = await look(made, instance_id)
        assert built.holder is not None
        assert built.holder.epoch > old.epoch
        told = await seen(made, instance_id, 1, applied_generation=built.instance.generation)
        new = replace(told, epoch=built.holder.epoch, host_id="h2", incarnation=1)
        assert await made.observer.observe([new]) == [ObservationOutcome.APPLIED]
        done = await look(made, instance_id)
        assert done.instance.standing == Standing(State.ACTIVE, Task.NONE)
        assert done.operation is None


async def test_a_host_that_comes_back_stops_and_keeps_until_the_owner_deletes(
    place: Place,
) -> None:
    """Its old words do not count, its view says stop and keep, and it is not behind for ever for
    the sake of what it keeps. Only the owner's word erases that, and only its own word returns
    the resources.
    """
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        await made.greeter.greet(hello("h2"))
        instance_id = await active(made)
        told = await seen(made, instance_id, 99)
        await down(made, place)
        await fence(made)
        await evacuate(made, instance_id)
        attempt = (await look(made, instance_id)).instance.attempt
        await made.decider.decide([Decision(instance_id, attempt, "h2", 1, {})])
        built = (await look(made, instance_id)).holder
        assert built is not None
        new = replace(told, epoch=built.epoch, host_id="h2", applied_generation=1)
        assert await made.observer.observe([new]) == [ObservationOutcome.APPLIED]

        assert await made.observer.observe([told]) == [ObservationOutcome.SUPERSEDED]
        (answer,) = await made.leaser.beat([Beat("h1", 1)])
        assert answer.superseded, "the incarnation is fenced, whoever still beats under it"
        with pytest.raises(Conflict, match="fenced"):
            await made.greeter.view("h1", 1)
        view = await made.greeter.greet(hello("h1"))
        ((row, claim),) = view.wanted
        wish = messages.wanted(row, claim)
        assert (wish.leaving, wish.spec.present, wish.epoch) == (True, True, told.epoch)
        off = replace(told, incarnation=2, sequence=1, power=Power.OFF)
        assert await made.observer.observe([off]) == [ObservationOutcome.APPLIED]
        (answer,) = await made.leaser.beat([Beat("h1", 2)])
        assert answer.wanted_revision <= claim.wanted_revision
        assert place.sql("SELECT fenced FROM host WHERE id = 'h1'") == "0", "a Hello ends the fence"

        assert place.sql("SELECT used_vcpus FROM host WHERE id = 'h1'") == "1"
        await made.instances.delete(asked("delete_instance"), instance_id)
        ((row, claim),) = (await made.greeter.view("h1", 2)).wanted
        wish = messages.wanted(row, claim)
        assert (wish.leaving, wish.spec.present) == (False, False)
        gone = replace(off, sequence=2, absent=True)
        assert await made.observer.observe([gone]) == [ObservationOutcome.APPLIED]
        assert place.sql("SELECT used_vcpus FROM host WHERE id = 'h1'") == "0"


async def test_a_stopped_instance_is_evacuated_and_stays_stopped(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        await made.greeter.greet(hello("h2"))
        instance_id = await active(made)
        off = await seen(made, instance_id, 2, applied_generation=1, power=Power.OFF)
        await made.observer.observe([off])
        silence(place)
        await down_by_rows(made)
        await fence(made)
        await evacuate(made, instance_id)
        now = await look(made, instance_id)
        await made.decider.decide([Decision(instance_id, now.instance.attempt, "h2", 1, {})])
        now = await look(made, instance_id)
        assert now.holder is not None
        built = replace(
            off, epoch=now.holder.epoch, host_id="h2", incarnation=1, sequence=1,
            applied_generation=now.instance.generation,
        )  # fmt: skip
        await made.observer.observe([built])
        now = await look(made, instance_id)
        assert now.instance.standing == Standing(State.STOPPED, Task.NONE)


async def down_by_rows(made: Conductor, host_id: str = "h1") -> None:
    """The row's body follows its column, as the leases would have it written."""
    row = (await made.store.hosts_read([host_id]))[host_id]
    await made.committer.commit(Item(host=replace(row, state=HostState.DOWN)))


@pytest.mark.parametrize("before", [0, 1])
async def test_a_hello_in_between_makes_the_evacuation_decide_again(
    place: Place, before: int
) -> None:
    """The fence is of one incarnation: what was decided on it does not commit after the next. So
    for the first evacuation, and for the next one where a first found no host.
    """
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        silence(place)
        await down_by_rows(made)
        await fence(made)
        for _ in range(before):
            await evacuate(made, instance_id)
            left = await look(made, instance_id)
            await made.decider.decide([Decision(instance_id, left.instance.attempt, "", 1, {})])
        claims = (await look(made, instance_id)).claims
        read = made.store.hosts_read

        async def greeted_meanwhile(host_ids: Sequence[str]) -> dict[str, HostRow]:
            made.store.hosts_read = read  # type: ignore[method-assign]  # once
            found = await read(host_ids)
            await made.greeter.greet(hello())
            return found

        made.store.hosts_read = greeted_meanwhile  # type: ignore[method-assign]  # the moment is the point
        assert await refusal(made, instance_id) == "HOST_NOT_DOWN"
        assert [c.role for c in (await look(made, instance_id)).claims] == [c.role for c in claims]


async def test_an_evacuation_without_a_host_fails_and_may_be_asked_for_again(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        silence(place)
        await down_by_rows(made)
        await fence(made)
        await evacuate(made, instance_id)
        attempt = (await look(made, instance_id)).instance.attempt
        await made.decider.decide([Decision(instance_id, attempt, "", 1, {"room": 1})])
        failed = await look(made, instance_id)
        assert failed.instance.standing == Standing(State.ERROR, Task.NONE)
        assert failed.instance.fault.startswith("NO_VALID_HOST")
        await evacuate(made, instance_id)
        again = await look(made, instance_id)
        assert again.instance.standing == Standing(State.ERROR, Task.EVACUATING)
        assert again.operation is not None
        assert again.operation.state is OperationState.RUNNING


async def test_what_no_host_holds_is_not_evacuated(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        lost = await seen(made, instance_id, 2, absent=True, failure=("DISK_LOST", "burnt"))
        await made.observer.observe([lost])
        assert await refusal(made, instance_id) == "NOTHING_TO_EVACUATE"


async def test_a_build_moves_on_from_a_host_only_once_it_is_fenced(place: Place) -> None:
    """Silence is not confirmation. What it began is erased, should it come back. MECHANICS C3."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        ids = await catalog(made)
        instance_id = (await made.instances.create(asked(), new_instance("web", ids))).resource.id
        await made.decider.decide([Decision(instance_id, 1, "h1", 1, {})])
        silence(place)
        await down_by_rows(made)
        await advanced(made, instance_id)
        assert (await look(made, instance_id)).instance.standing.state is State.BUILDING
        await fence(made)
        await advanced(made, instance_id)
        now = await look(made, instance_id)
        assert now.instance.standing.state is State.REQUESTED
        assert now.instance.attempt == 2
        assert [(c.role, c.discard) for c in now.claims] == [(ClaimRole.LEAVING, True)]


async def test_a_build_does_not_move_on_from_a_host_that_greets_meanwhile(place: Place) -> None:
    """It may begin the guest now: what was read before its greeting is no ground any more. C3."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        ids = await catalog(made)
        instance_id = (await made.instances.create(asked(), new_instance("web", ids))).resource.id
        await made.decider.decide([Decision(instance_id, 1, "h1", 1, {})])
        silence(place)
        await down_by_rows(made)
        await fence(made)
        read = await look(made, instance_id)
        await made.greeter.greet(hello())
        await made.advancer._end(MoveOn(read))
        now = await look(made, instance_id)
        assert now.instance.standing.state is State.BUILDING
        assert [(c.role, c.discard) for c in now.claims] == [(ClaimRole.HOLDER, False)]


async def advanced(made: Conductor, instance_id: str) -> None:
    """Its next step is taken."""
    await made.advancer.situations_now([instance_id])
    await made.advancer._round([instance_id])


async def test_a_host_is_removed_once_it_is_silent_and_empty_and_may_come_back_as_new(
    place: Place,
) -> None:
    """What was left there of a deleted instance goes with it. MECHANICS C6."""
    order = replace(asked("remove_host"), caller=ADMIN)
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        with pytest.raises(WrongState) as refused:
            await hosts(made).remove(order, "h1")
        assert refused.value.reason == "HOST_NOT_DOWN"
        silence(place)
        await down_by_rows(made)
        with pytest.raises(WrongState) as refused:
            await hosts(made).remove(order, "h1")
        assert refused.value.reason == "HOST_NOT_EMPTY"
        await made.instances.delete(asked("delete_instance"), instance_id)
        await deleted(made, instance_id)
        assert place.sql("SELECT role, discard FROM claim") == "3|t"
        removed = await hosts(made).remove(order, "h1")
        assert removed.resource.deleted
        assert place.sql("SELECT count(*) FROM claim") == "0"
        assert place.sql("SELECT deleted, used_vcpus, claim_count FROM host") == "t|0|0"
        (answer,) = await made.leaser.beat([Beat("h1", 1)])
        assert answer.superseded, "an agent that was silent until now must greet anew"
        back = await made.greeter.greet(hello())
        assert (back.incarnation, back.wanted) == (2, ())
        assert place.sql("SELECT deleted FROM host") == "f"


async def test_a_returning_host_is_told_of_guests_whose_instance_has_a_higher_epoch(
    place: Place,
) -> None:
    """Those it stops; of what nobody knows nothing is said. MECHANICS C7."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        epoch = (await look(made, instance_id)).claims[0].epoch
        guests = ((instance_id, epoch - 1), (new_id(), 3), (instance_id, epoch + 9), ("x", 1))
        view = await made.greeter.greet(replace(hello("h2"), guests=guests))
        assert view.outdated == ((instance_id, epoch - 1),)
        (wish,) = messages.view(view, "c").wanted
        assert (wish.leaving, wish.unclaimed, wish.epoch) == (True, True, epoch - 1)


async def test_a_condemned_guest_is_told_to_its_host_and_goes_with_its_word(place: Place) -> None:
    """It needs no instance, takes no room, and what is claimed cannot be condemned."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        stray = new_id()
        condemned = ClaimChange(ClaimAct.CONDEMN, stray, "h1", NOTHING, epoch=5)
        assert isinstance(await made.committer.commit(Item(claims=(condemned,))), Committed)
        assert not isinstance(await made.committer.commit(Item(claims=(condemned,))), Committed)
        assert place.sql("SELECT claim_count, used_vcpus FROM host") == "1|0"
        ((row, claim),) = (await made.greeter.view("h1", 1)).wanted
        assert row is None
        wish = messages.wanted(row, claim)
        assert (wish.instance_id, wish.epoch, wish.spec.present) == (stray, 5, False)
        assert not wish.leaving
        (answer,) = await made.leaser.beat([Beat("h1", 1)])
        assert answer.wanted_revision > 0
        gone = gone_of(stray, 5)
        assert await made.observer.observe([gone]) == [ObservationOutcome.APPLIED]
        assert place.sql("SELECT count(*) FROM claim") == "0"
        assert place.sql("SELECT claim_count FROM host") == "0"
        assert await made.observer.observe([replace(gone, sequence=2)]) == [
            ObservationOutcome.NO_SUCH_CLAIM
        ]


def gone_of(instance_id: str, epoch: int) -> Seen:
    return Seen(instance_id, epoch, "h1", 1, 1, 0, Power.OFF, absent=True)
