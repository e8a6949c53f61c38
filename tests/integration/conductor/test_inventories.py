"""What hosts say that they have: kept beside everything, quarantined, let go by an admin's word."""

from __future__ import annotations

import pytest
from stead.internal.v1 import compute_pb2, conductor_pb2

from services.conductor.edges import messages
from services.conductor.edges.audit_servicer import AuditFlows, AuditingServicer
from services.conductor.flows.accept_evacuate import EvacuationAcceptor
from services.conductor.flows.accept_guest import GuestOnHost
from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.flows.decide import Decision
from services.conductor.flows.inventory import GUESTS_MAX
from services.conductor.flows.ports import CloudIdentity
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import Caller, ClaimRow
from services.domain.errors import NotFound, WrongState
from services.domain.instance import Power
from services.domain.kinds import ClaimRole
from services.domain.observation import ObservationOutcome
from services.runtime.ids import new_id
from tests.integration.conductor.audited import Hosts
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Conductor, Sent, asked, conductor, hello
from tests.integration.conductor.test_hosts import active, seen
from tests.integration.conductor.wishes import down
from tests.stores import CLOUD

ADMIN = Caller("root", "admin", cloud_admin=True)
START = ("", "", 0)
COLUMNS = "SELECT instance_id, epoch, applied_generation, power FROM guest ORDER BY 1, 2"


def report(number: int, *guests: ReportedGuest, incarnation: int = 1) -> Inventory:
    return Inventory("h1", incarnation, number, 0, guests)


async def test_the_newest_report_takes_the_place_of_the_one_before(place: Place) -> None:
    """A later one wins whenever it comes; a guest keeps when it was first told of."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        keep, a, b = made.store.audits.inventory_keep, new_id(), new_id()
        runs = ReportedGuest(a, 5, 1, Power.RUNNING)
        assert await keep(report(0, runs))
        first = place.sql("SELECT first_reported_at FROM guest")
        off = ReportedGuest(a, 5, 2, Power.OFF)
        assert await keep(report(2, off, ReportedGuest(b, 6, 0, Power.PENDING)))
        assert await keep(report(1, runs))
        assert place.sql(COLUMNS) == f"{a}|5|2|3\n{b}|6|0|1"
        assert place.sql(f"SELECT first_reported_at FROM guest WHERE instance_id = '{a}'") == first
        assert await keep(report(3))
        assert place.sql(COLUMNS) == ""


async def test_only_the_live_agent_is_believed(place: Place) -> None:
    """Not one before it, not one of a host that never greeted; a greeting begins anew."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        keep = made.store.audits.inventory_keep
        guest = ReportedGuest(new_id(), 5, 1, Power.RUNNING)
        assert await keep(report(9, guest))
        await made.greeter.greet(hello())
        assert not await keep(report(10))
        assert not await keep(Inventory("nowhere", 1, 1, 0, (guest,)))
        assert place.sql("SELECT incarnation, number FROM inventory") == "1|9"
        assert await keep(report(0, guest, incarnation=2))
        assert place.sql("SELECT incarnation, number FROM inventory") == "2|0"
        await down(made, "h1")
        await made.hosts.fence(asked("fence_host", caller=ADMIN), "h1", "burnt")
        assert not await keep(report(1, incarnation=2)), "what is fenced is not heard"


async def test_a_report_out_of_bounds_is_cut(place: Place) -> None:
    """A host is the least trusted part: ids that are none are left out, too many are cut short."""
    async with conductor(place.url, Sent()) as made:
        servicer = auditing(made)
        told = compute_pb2.Hello(host_id="h1", machine_id="m", boot_id="b")
        told.guests.add(instance_id="'; DROP TABLE guest", epoch=1)
        told.guests.add(instance_id=new_id(), epoch=(1 << 62), power=77)
        twin = new_id()
        for _ in range(GUESTS_MAX + 5):
            told.guests.add(instance_id=twin, epoch=3)
        await servicer.Greet(conductor_pb2.GreetRequest(hello=told), None)
        assert place.sql("SELECT count(*) FROM guest") == "2"
        assert place.sql("SELECT cut_short FROM inventory") == "t"


def auditing(made: Conductor) -> AuditingServicer:
    """The servicer whole; its hosts answer nothing."""
    hosts = Hosts(made.store.audits, silent={"h1"})
    audits = AuditFlows(hosts.inventorist(), hosts.auditor())
    return AuditingServicer(made.flows(), made.store, CloudIdentity(CLOUD, "history"), audits)


async def test_what_a_host_reports_goes_all_the_way_and_back(place: Place) -> None:
    """Through the contract: the greeting's guests, a report, the list of the unknown, an audit."""
    async with conductor(place.url, Sent()) as made:
        servicer, unknown = auditing(made), new_id()
        told = compute_pb2.Hello(host_id="h1", machine_id="m", boot_id="b")
        told.guests.add(instance_id=unknown, epoch=4, power=2)
        await servicer.Greet(conductor_pb2.GreetRequest(hello=told), None)
        inventory = compute_pb2.Inventory(number=1, guests=told.guests)
        item = conductor_pb2.HostInventory(host_id="h1", incarnation=1, inventory=inventory)
        stale = conductor_pb2.HostInventory(host_id="h1", incarnation=0, inventory=inventory)
        request = conductor_pb2.ReportInventoriesRequest(inventories=[item, stale])
        answer = await servicer.ReportInventories(request, None)
        assert list(answer.superseded) == [False, True]
        listed = await servicer.ListUnknownGuests(
            conductor_pb2.ListUnknownGuestsRequest(host_id="h1", limit=5), None
        )
        assert [(g.host_id, g.instance_id, g.epoch) for g in listed.guests] == [("h1", unknown, 4)]
        found = [r async for r in servicer.Audit(conductor_pb2.AuditRequest(), None)]
        assert found[-1].done.hosts == 1


async def test_the_unknown_are_listed_in_pages(place: Place) -> None:
    """Each once, in order, also with an instance that is known on the same host."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        known = await active(made)
        hosts = Hosts(made.store.audits)
        epoch = int(place.sql(f"SELECT epoch FROM instance WHERE id = '{known}'"))
        hosts.has("h1", (known, epoch))
        strangers = sorted(new_id() for _ in range(5))
        for stranger in strangers:
            hosts.has("h1", (stranger, 1))
        await hosts.greet("h1")
        listed, after = [], START
        for _ in range(4):
            page, more = await hosts.inventorist().unknown("h1", after, 2)
            listed += [guest.instance_id for guest in page]
            if more is None:
                break
            after = more
        assert listed == strangers


async def test_a_guest_goes_by_an_admins_word_and_not_before(place: Place) -> None:
    """The word becomes a claim that leaves and may be erased; the host is told; the same request
    again is the same word.
    """
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        hosts, stranger = Hosts(made.store.audits), new_id()
        hosts.has("h1", (stranger, 4))
        await hosts.greet("h1")
        view = await made.store.host_view_read("h1")
        assert view is not None
        assert view.wanted == ()
        word = asked("discard_guest", caller=ADMIN)
        accepted = await made.guests.discard(word, GuestOnHost("h1", stranger, 4))
        assert accepted.resource.id == "h1"
        again = await made.guests.discard(word, GuestOnHost("h1", stranger, 4))
        assert again.operation.id == accepted.operation.id
        told = messages.view(await made.greeter.view("h1", 1), CLOUD).wanted
        assert [(w.instance_id, w.epoch, w.spec.present) for w in told] == [(stranger, 4, False)]
        assert (await hosts.inventorist().unknown("", START, 9))[0] == []
        assert place.sql("SELECT role, discard, vcpus FROM claim") == "3|t|0"


async def test_what_a_removed_host_had_is_shown_no_more(place: Place) -> None:
    """Nobody can look at it any more; should the host come back, it says anew what it has."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        hosts = Hosts(made.store.audits)
        hosts.has("h1", (new_id(), 4))
        await hosts.greet("h1")
        assert len((await hosts.inventorist().unknown("", START, 9))[0]) == 1
        await down(made, "h1")
        await made.hosts.remove(asked("remove_host", caller=ADMIN), "h1")
        assert (await hosts.inventorist().unknown("", START, 9))[0] == []
        with pytest.raises(NotFound):
            await made.guests.discard(
                asked("discard_guest", caller=ADMIN), GuestOnHost("h1", new_id(), 4)
            )


@pytest.mark.parametrize("case", ["no host", "no guest", "claimed"])
async def test_a_word_about_what_is_not_quarantined_is_refused(place: Place, case: str) -> None:
    """HOST_NOT_FOUND, GUEST_NOT_REPORTED, GUEST_CLAIMED; nothing is written."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        known = await active(made)
        epoch = int(place.sql(f"SELECT epoch FROM instance WHERE id = '{known}'"))
        hosts = Hosts(made.store.audits)
        hosts.has("h1", (known, epoch))
        await hosts.greet("h1")
        guest, reason = {
            "no host": (GuestOnHost("h9", known, epoch), "HOST_NOT_FOUND"),
            "no guest": (GuestOnHost("h1", known, epoch - 1), "GUEST_NOT_REPORTED"),
            "claimed": (GuestOnHost("h1", known, epoch), "GUEST_CLAIMED"),
        }[case]
        with pytest.raises((NotFound, WrongState)) as refused:
            await made.guests.discard(asked("discard_guest", caller=ADMIN), guest)
        assert refused.value.reason == reason
        assert place.sql("SELECT role FROM claim") == "1"


async def test_what_an_evacuation_left_goes_by_an_admins_word_once_it_is_not_the_one_disk(
    place: Place,
) -> None:
    """Its instance lives elsewhere: else its host would lack the room for as long as that does."""
    async with conductor(place.url, Sent()) as made:
        for host_id in ("h1", "h2"):
            await made.greeter.greet(hello(host_id))
        instance_id = await active(made)
        left = GuestOnHost("h1", instance_id, (await claims(made, instance_id))[0].epoch)
        await down(made, "h1")
        await made.hosts.fence(asked("fence_host", caller=ADMIN), "h1", "burnt")
        evacuations = EvacuationAcceptor(made.acceptance, made.advancer)
        await evacuations.evacuate(asked("evacuate_instance", caller=ADMIN), instance_id)
        await made.greeter.greet(hello("h1"))
        hosts = Hosts(made.store.audits)
        hosts.has("h1", (instance_id, left.epoch), Power.OFF)
        await hosts.greet("h1", 2)
        with pytest.raises(WrongState, match="one disk"):
            await made.guests.discard(asked("discard_guest", caller=ADMIN), left)
        await made.decider.decide([Decision(instance_id, 2, "h2", 1, {})])
        # Nothing is made of it yet: the build may fail, or its host die.
        with pytest.raises(WrongState, match="one disk"):
            await made.guests.discard(asked("discard_guest", caller=ADMIN), left)
        epoch = (await claims(made, instance_id))[-1].epoch
        built = Seen(instance_id, epoch, "h2", 1, 1, 3, Power.RUNNING, absent=False)
        assert await made.observer.observe([built]) == [ObservationOutcome.APPLIED]
        await made.guests.discard(asked("discard_guest", caller=ADMIN), left)
        with pytest.raises(WrongState, match="on its way out"):
            await made.guests.discard(asked("discard_guest", caller=ADMIN), left)
        told = messages.view(await made.greeter.view("h1", 2), CLOUD).wanted
        assert [(w.epoch, w.leaving, w.spec.present) for w in told] == [(left.epoch, False, False)]
        gone = Seen(instance_id, left.epoch, "h1", 2, 9, 0, Power.OFF, absent=True)
        assert await made.observer.observe([gone]) == [ObservationOutcome.APPLIED]
        assert place.sql("SELECT used_vcpus FROM host WHERE id = 'h1'") == "0"
        assert [c.role for c in await claims(made, instance_id)] == [ClaimRole.HOLDER]


async def claims(made: Conductor, instance_id: str) -> tuple[ClaimRow, ...]:
    """The claims for an instance."""
    return (await made.store.situations_read([instance_id]))[instance_id].claims


async def test_an_instance_whose_guest_vanished_is_told_so_and_keeps_its_claim(
    place: Place,
) -> None:
    """With its fault; its host is told that it was built, so that it makes none anew."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        id_ = await active(made)
        lost = ("GUEST_LOST", "nothing of it is left on its host")
        told = await seen(made, id_, 2, power=Power.CRASHED, applied_generation=1, failure=lost)
        assert await made.observer.observe([told]) == [ObservationOutcome.APPLIED]
        situation = (await made.store.situations_read([id_]))[id_]
        assert situation.instance.fault == "GUEST_LOST: nothing of it is left on its host"
        assert situation.holder is not None
        view = messages.view(await made.greeter.view("h1", 1), CLOUD)
        assert [wanted.built for wanted in view.wanted] == [True]
