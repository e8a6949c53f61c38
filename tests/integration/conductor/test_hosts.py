"""Hosts and the conductor: greetings, leases, claims that leave."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.conductor.edges import messages
from services.conductor.flows.decide import Decision
from services.conductor.flows.greet import Hello
from services.conductor.logic.items import Item
from services.conductor.logic.leases import LEASE_S, Beat
from services.conductor.logic.observation import Seen
from services.domain.errors import CloudError, Conflict, Invalid
from services.domain.instance import Power, State
from services.domain.kinds import ClaimRole, HostState
from services.domain.observation import ObservationOutcome
from services.domain.resources import Resources
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


async def active(made: Conductor, name: str = "web") -> str:
    """An instance that runs on h1; its id."""
    ids = await catalog(made)
    accepted = await made.instances.create(asked(), new_instance(name, ids))
    instance_id = accepted.resource.id
    await made.decider.decide([Decision(instance_id, 1, "h1", 1, {})])
    outcome = await made.observer.observe([await seen(made, instance_id, 1, applied_generation=1)])
    assert outcome == [ObservationOutcome.APPLIED]
    return instance_id


async def seen(made: Conductor, instance_id: str, sequence: int, **changes: object) -> Seen:
    """What h1 says of its claim now."""
    claim = (await made.store.situations_read([instance_id]))[instance_id].claims[0]
    told = Seen(
        instance_id,
        claim.epoch,
        claim.host_id,
        claim.host_incarnation,
        sequence,
        applied_generation=0,
        power=Power.RUNNING,
        absent=False,
    )
    return replace(told, **changes)  # type: ignore[arg-type]  # the caller names fields of Seen


async def test_agents_that_greet_at_once_never_share_an_incarnation(place: Place) -> None:
    """Not for a host that is new, not through two conductors: who was overtaken is told so."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        for n in range(15):
            answers = await asyncio.gather(
                *(made.greeter.greet(hello(f"h{n}")) for made in (one, two, one, two)),
                return_exceptions=True,
            )
            incarnations = [a.incarnation for a in answers if not isinstance(a, BaseException)]
            assert len(incarnations) == len(set(incarnations))
            refused = [a for a in answers if isinstance(a, BaseException)]
            assert all(isinstance(a, CloudError) and a.reason == "SUPERSEDED" for a in refused)
            newest = int(place.sql(f"SELECT incarnation FROM host WHERE id = 'h{n}'"))
            assert newest == 4


async def test_to_greet_is_to_beat(place: Place) -> None:
    """A host that was DOWN for long and greets is not found without a lease in between."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        place.sql("UPDATE lease SET beat_at = now() - interval '1 hour'")
        row = (await made.store.hosts_read(["h1"]))["h1"]
        greeting = replace(row, incarnation=row.incarnation + 1)
        assert (await made.store.silences_read(["h1"]))["h1"] > LEASE_S
        await made.store.items_commit([Item(host=greeting)])
        assert (await made.store.silences_read(["h1"]))["h1"] < LEASE_S


@pytest.mark.parametrize(
    "bad",
    [
        replace(hello(), machine_id="m\0"),
        replace(hello(), boot_id="b" * 256),
        replace(hello(), capabilities=b"c" * 100_000),
        replace(hello(), capacity=Resources(1 << 62, 1, 1)),
        replace(hello(), reserved=Resources(-1, 1, 1)),
        replace(hello("h1\n")),
    ],
    ids=["nul", "long", "large", "huge", "negative", "newline"],
)
async def test_a_hello_out_of_bounds_is_refused(place: Place, bad: Hello) -> None:
    """A host is the least trusted part."""
    async with conductor(place.url, Sent()) as made:
        with pytest.raises(Invalid) as refused:
            await made.greeter.greet(bad)
    wanted = "HELLO_INVALID" if bad.host_id == hello().host_id else "HOST_ID_INVALID"
    assert refused.value.reason == wanted
    assert place.sql("SELECT count(*) FROM host") == "0"


async def test_a_host_that_greets_again_is_not_troubled_by_its_old_words(place: Place) -> None:
    """Observations under way from before are SUPERSEDED, whatever they say; the guest stays."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        old = await seen(made, instance_id, 7, absent=True, power=Power.OFF, failure=("X", "y"))
        again, (outcome,) = await asyncio.gather(
            made.greeter.greet(hello()), made.observer.observe([replace(old, incarnation=0)])
        )
        assert outcome is ObservationOutcome.SUPERSEDED
        assert await made.observer.observe([old]) == [ObservationOutcome.SUPERSEDED]
        assert [claim.instance_id for _, claim in again.wanted] == [instance_id]
        known = await seen(made, instance_id, 1, applied_generation=1)
        assert await made.observer.observe([known]) == [ObservationOutcome.APPLIED]
        situation = (await made.store.situations_read([instance_id]))[instance_id]
        assert situation.instance.standing.state is State.ACTIVE


async def test_a_host_that_comes_back_is_told_to_remove_what_was_deleted(place: Place) -> None:
    """DELETED at once on a DOWN host; the claim is LEAVING, its resources wait. The view says
    absent, every beat says that the host is behind, and absence returns the resources.
    MECHANICS C6.
    """
    bus = Sent()
    async with conductor(place.url, bus) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        place.sql("UPDATE host SET state = 2")
        await made.instances.delete(asked("delete_instance"), instance_id)
        await deleted(made, instance_id)
        assert place.sql("SELECT role, used_vcpus, claim_count FROM claim, host") == "3|1|1"
        newer = "SELECT c.wanted_revision >= i.revision FROM claim c, instance i"
        assert place.sql(newer) == "t", "what is LEAVING is wanted anew"

        # The agent lived through it, and knows a later command than the one that it missed.
        head = (await made.store.changes_read(0, 1)).head_revision
        await made.catalog.create_flavor(asked("create_flavor"), "other", Resources(1, 1, 1))
        (answer,) = await made.leaser.beat([Beat("h1", 1)])
        assert answer.wanted_revision > head

        view = await made.greeter.greet(hello())
        ((row, claim),) = view.wanted
        assert claim.role is ClaimRole.LEAVING
        wanted = messages.wanted(row, claim)
        assert (wanted.spec.present, wanted.spec.run) == (False, False)
        assert wanted.revision <= view.revision
        still = await seen(made, instance_id, 1, power=Power.OFF)
        gone = await seen(made, instance_id, 2, power=Power.OFF, absent=True)
        told = await made.observer.observe([still, gone, replace(gone, sequence=3)])
        assert told == [1, 1, 3]
        assert place.sql("SELECT count(*) FROM claim") == "0"
        assert place.sql("SELECT used_vcpus, claim_count FROM host") == "0|0"
        (answer,) = await made.leaser.beat([Beat("h1", 2)])
        assert answer.wanted_revision == 0


async def deleted(made: Conductor, instance_id: str) -> None:
    """Waits until it is."""
    async with asyncio.timeout(60):
        while True:
            situation = (await made.store.situations_read([instance_id]))[instance_id]
            if situation.instance.deleted:
                return
            await asyncio.sleep(0.02)


async def test_a_conductor_that_was_away_puts_no_host_down(place: Place) -> None:
    """Silence that nobody could have heard is no host's own, by PostgreSQL's clock: none is DOWN
    before others, or in so small a cloud the roads from api, were heard for a whole lease.
    """
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        place.sql("UPDATE lease SET beat_at = now() - interval '1 hour'")
        place.sql(
            "UPDATE road SET since_at = now() - interval '2 h', last_at = now() - interval '1 h'"
        )
        # The first sign after a long silence begins a new stretch.
        await made.leaser.beat([])
        await made.leaser.compare()
        assert place.sql("SELECT state FROM host") == "3", "UNKNOWN"
        place.sql("UPDATE road SET since_at = now() - interval '50 s' WHERE kind = 2")
        await made.leaser.beat([])
        await made.leaser.compare()
        assert place.sql("SELECT state FROM host") == "2", "DOWN"
        await made.leaser.beat([Beat("h1", 1)])
        await made.leaser.compare()
        assert place.sql("SELECT state FROM host") == "1"


async def test_many_hosts_that_fall_silent_at_once_are_unknown_and_an_alarm_is_raised(
    place: Place,
) -> None:
    """None is DOWN, and beats bring them back."""
    names = [f"h{n}" for n in range(8)]
    async with conductor(place.url, Sent()) as made:
        for name in names:
            await made.greeter.greet(hello(name))
        place.sql("UPDATE road SET since_at = now() - interval '1 h', last_at = now()")
        place.sql("UPDATE lease SET beat_at = now() - interval '1 min' WHERE host_id < 'h3'")
        await made.leaser.compare()
        told = "SELECT string_agg(state::text, '' ORDER BY id) FROM host"
        assert place.sql(told) == "33311111"
        assert made.leaser.states[HostState.UNKNOWN] == 3
        await made.leaser.beat([Beat("h0", 1), Beat("h1", 1)])
        await made.leaser.compare()
        assert place.sql(told) == "11211111", "the one that is left is alone"


async def test_another_machine_does_not_take_a_name_during_a_live_lease(place: Place) -> None:
    """HOST_IDENTITY_IN_USE; after the lease it is the machine in its place. MECHANICS D3."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        twin = replace(hello(), machine_id="another")
        with pytest.raises(Conflict) as refused:
            await made.greeter.greet(twin)
        assert refused.value.reason == "HOST_IDENTITY_IN_USE"
        assert (await made.greeter.greet(hello())).incarnation == 2, "the machine itself may"
        place.sql("UPDATE lease SET beat_at = now() - interval '1 min'")
        assert (await made.greeter.greet(twin)).incarnation == 3


async def test_a_refusal_must_know_what_another_conductor_has_committed(place: Place) -> None:
    """Also a conductor that has just started asks for hosts with the head of the database."""
    bus = Sent()
    async with conductor(place.url, Sent()) as one:
        ids = await catalog(one)
        await one.instances.create(asked(), new_instance("web", ids))
        await one.greeter.greet(hello())
        head = (await one.store.changes_read(0, 1)).head_revision
    place.sql("UPDATE operation SET look_again_at = now()")
    async with conductor(place.url, bus) as two:
        await two.advancer.reconcile()
        async with asyncio.timeout(60):
            await bus.placed.wait()
    assert bus.places[0][1] == head


async def test_a_guest_that_is_lost_for_ever_is_an_error_that_says_so(place: Place) -> None:
    """Its host confirmed that nothing is left: the resources return, and delete ends it."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        instance_id = await active(made)
        gone = await seen(made, instance_id, 2, absent=True, failure=("DISK_LOST", "burnt"))
        assert await made.observer.observe([gone]) == [ObservationOutcome.APPLIED]
        situation = (await made.store.situations_read([instance_id]))[instance_id]
        assert situation.instance.standing.state is State.ERROR
        assert situation.instance.fault == "DISK_LOST: burnt"
        assert place.sql("SELECT used_vcpus, claim_count FROM host") == "0|0"
        await made.instances.delete(asked("delete_instance"), instance_id)
        await deleted(made, instance_id)


async def test_a_host_speaks_only_of_its_own_claims(place: Place) -> None:
    """Nor does what is no id, or no claim, trouble those beside it."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        await made.greeter.greet(hello("h2"))
        instance_id = await active(made)
        honest = await seen(made, instance_id, 2, power=Power.OFF)
        stolen = replace(honest, host_id="h2", absent=True, sequence=9)
        nonsense = replace(honest, instance_id="x\0")
        unknown = replace(honest, instance_id=new_id())
        told = await made.observer.observe([stolen, nonsense, unknown, honest])
        assert told == [3, 3, 3, 1]
        situation = (await made.store.situations_read([instance_id]))[instance_id]
        assert situation.instance.standing.state is State.STOPPED
