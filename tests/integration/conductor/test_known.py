"""What a conductor remembers of its own commits spares looks, and never decides anything alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.accept_instance import InstanceChanges
from services.conductor.flows.decide import Decision
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import Situation
from services.domain.instance import Power, State
from services.domain.observation import ObservationOutcome
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


async def until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # the bus of the test has no event for everything
            await asyncio.sleep(0.01)


async def placing(made: Conductor, bus: Sent) -> str:
    """An instance for which a host was asked."""
    await made.greeter.greet(hello())
    accepted = await made.instances.create(asked(), new_instance("n", await catalog(made)))
    await until(lambda: bus.places)
    return accepted.resource.id


def decision(instance_id: str, attempt: int = 1) -> Decision:
    return Decision(instance_id, attempt, "h1", 1, {})


class Counted(PostgresStore):
    """A store that notes which situations are read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.looks: list[list[str]] = []

    async def situations_read(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        self.looks.append(list(instance_ids))
        return await super().situations_read(instance_ids)


async def told(bus: Sent, made: Conductor, instance_id: str) -> Seen:
    """The instance is claimed and its host told; what it says when the guest runs."""
    commands = len(bus.commands)
    await made.decider.decide([decision(instance_id)])
    await until(lambda: len(bus.commands) > commands)
    _, incarnation, row, claim = bus.commands[-1]
    return runs(row.id, claim.epoch, incarnation)


def runs(instance_id: str, epoch: int, incarnation: int = 1) -> Seen:
    return Seen(instance_id, epoch, "h1", incarnation, 1, 1, Power.RUNNING, absent=False)


def state_of(place: Place) -> str:
    return place.sql("SELECT state FROM instance")


async def test_a_create_that_nobody_else_touches_is_never_looked_at(place: Place) -> None:
    bus, store = Sent(), Counted(place.url)
    async with conductor(place.url, bus) as made:
        made.advancer._store = made.observer._looker._store = store
        instance_id = await placing(made, bus)
        seen = await told(bus, made, instance_id)
        assert await made.observer.observe([seen]) == [ObservationOutcome.APPLIED]
        assert state_of(place) == str(State.ACTIVE.value)
        assert store.looks == []
    await store.close()


async def test_what_another_conductor_changed_is_looked_at_before_it_is_observed(
    place: Place,
) -> None:
    """It renamed the instance after this one's command: the observation counts, once, and the name
    stays.
    """
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        seen = await told(bus, made, await placing(made, bus))
        changes = InstanceChanges("other", {}, ("name",), "")
        await other.instances.update(asked("update_instance"), seen.instance_id, changes)
        assert await made.observer.observe([seen]) == [ObservationOutcome.APPLIED]
        assert place.sql("SELECT name, state FROM instance") == f"other|{State.ACTIVE.value}"


async def test_an_observation_of_a_claim_that_is_not_known_is_not_swallowed(place: Place) -> None:
    """This conductor knows of no claim, another one made it; the host's word comes here."""
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        instance_id = await placing(made, bus)
        await other.decider.decide([decision(instance_id)])
        holder = (await other.store.situations_read([instance_id]))[instance_id].holder
        assert holder is not None
        seen = runs(instance_id, holder.epoch)
        assert await made.observer.observe([seen]) == [ObservationOutcome.APPLIED]
        assert state_of(place) == str(State.ACTIVE.value)


async def test_a_host_that_greets_meanwhile_is_told_again_by_the_reconciler(place: Place) -> None:
    """What is remembered names the incarnation before: that command is void (MECHANICS D2), and the
    look after it (B5) names the new one.
    """
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        await told(bus, made, await placing(made, bus))
        await other.greeter.greet(hello())
        assert (await made.advancer.situations([bus.commands[0][2].id])).popitem()[1].claims[
            0
        ].host_incarnation == 1
        place.sql("UPDATE operation SET look_again_at = now()")
        await made.advancer.reconcile()
        await until(lambda: len(bus.commands) > 1)
        assert [incarnation for _, incarnation, _, _ in bus.commands] == [1, 2]


async def test_what_a_new_agent_sees_is_never_answered_to_the_one_before_it(place: Place) -> None:
    """A twin on another machine would obey it. The greeting went through another conductor; what
    the new agent says tells this one of it. MECHANICS D2, D3.
    """
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        seen = await told(bus, made, await placing(made, bus))
        assert await made.observer.observe([seen]) == [ObservationOutcome.APPLIED]
        await other.greeter.greet(hello())
        bus.commands.clear()
        lost = ("GUEST_LOST", "it is not there")
        crashed = replace(seen, incarnation=2, power=Power.CRASHED, failure=lost)
        assert await made.observer.observe([crashed]) == [ObservationOutcome.APPLIED]
        await until(lambda: bus.commands)
        assert {incarnation for _, incarnation, _, _ in bus.commands} == {2}


async def test_a_wish_after_a_greeting_goes_to_the_agent_that_greeted(place: Place) -> None:
    """The greeting came here: what was remembered before it is looked at again."""
    bus = Sent()
    async with conductor(place.url, bus) as made:
        seen = await told(bus, made, await placing(made, bus))
        assert await made.observer.observe([seen]) == [ObservationOutcome.APPLIED]
        await made.greeter.greet(hello())
        bus.commands.clear()
        await made.instances.delete(asked("delete_instance"), seen.instance_id)
        await until(lambda: bus.commands)
        assert {incarnation for _, incarnation, _, _ in bus.commands} == {2}


async def test_a_decision_about_what_is_gone_by_now_claims_nothing(place: Place) -> None:
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        instance_id = await placing(made, bus)
        await other.instances.delete(asked("delete_instance"), instance_id)
        await made.decider.decide([decision(instance_id)])
        assert place.sql("SELECT count(*) FROM claim") == "0"


async def test_a_delete_reaches_the_host_that_another_conductor_chose(place: Place) -> None:
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        instance_id = await placing(made, bus)
        await other.decider.decide([decision(instance_id)])
        asked_before = len(bus.places)
        await made.instances.delete(asked("delete_instance"), instance_id)
        await until(lambda: bus.commands)
        assert not bus.commands[0][2].wanted.present
        assert len(bus.places) == asked_before


async def test_a_decision_for_an_attempt_that_is_not_known_yet_counts(place: Place) -> None:
    """The first attempt went through another conductor and failed there; what this one remembers
    of it does not stand in the way of the second.
    """
    bus = Sent()
    async with conductor(place.url, bus) as made, conductor(place.url, Sent()) as other:
        instance_id = await placing(made, bus)
        await other.decider.decide([decision(instance_id)])
        holder = (await other.store.situations_read([instance_id]))[instance_id].holder
        assert holder is not None
        lost = Seen(instance_id, holder.epoch, "h1", 1, 1, 0, Power.OFF, True, ("X", "y"))
        await other.observer.observe([lost])
        await made.decider.decide([decision(instance_id, attempt=2)])
        assert place.sql("SELECT count(*) FROM claim") == "1"
