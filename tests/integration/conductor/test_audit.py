"""Each kind of difference is found where it is, and none where all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from services.conductor.flows.audit import Compared
from services.conductor.flows.decide import Decision
from services.conductor.logic.audit import Kind
from services.conductor.logic.audit_advice import ADVICE
from services.domain.errors import NotFound
from services.domain.instance import Power
from services.domain.observation import ObservationOutcome
from services.runtime.ids import new_id
from tests.integration.conductor.audited import Hosts, differences, kinds
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
from tests.integration.conductor.test_hosts import active, seen


@dataclass
class Stage:
    """A cloud of one host with one instance that runs there, and all in order."""

    place: Place
    made: Conductor
    hosts: Hosts
    instance_id: str
    epoch: int

    @property
    def claim(self) -> tuple[str, int]:
        return self.instance_id, self.epoch


async def staged(place: Place, made: Conductor) -> Stage:
    await made.greeter.greet(hello())
    instance_id = await active(made)
    epoch = int(place.sql(f"SELECT epoch FROM instance WHERE id = '{instance_id}'"))
    hosts = Hosts(made.store.audits)
    hosts.has("h1", (instance_id, epoch))
    await hosts.greet("h1")
    return Stage(place, made, hosts, instance_id, epoch)


async def test_where_all_is_well_nothing_differs_and_all_is_compared(place: Place) -> None:
    """No host is asked anything; the last word is how much was compared."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        told = [found async for found in stage.hosts.auditor().audit()]
        assert not [found for found in told[:-1] if found]
        assert stage.hosts.asked == []
        done = told[-1]
        assert isinstance(done, Compared)
        assert dict(done.counts) == {
            "projects": 1, "instances": 1, "claims": 1, "operations": 0, "hosts": 1, "guests": 1,
        }  # fmt: skip
        assert await kinds(stage.hosts.auditor(), "h1") == []


async def test_an_audit_takes_no_revision(place: Place) -> None:
    """Nor does a report of a host."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        before = place.sql("SELECT revision FROM counter")
        await stage.hosts.tell("h1")
        await kinds(stage.hosts.auditor())
        assert place.sql("SELECT revision FROM counter") == before


LATE = "now() - interval '10 minutes'"

# The kind, and what brings it about: SQL behind stead's back.
BROKEN: dict[Kind, tuple[str, ...]] = {
    Kind.LEDGER_DIFFERS: ("UPDATE host SET used_vcpus = used_vcpus + 1",),
    Kind.QUOTA_DIFFERS: ("UPDATE project SET used_instances = 7 WHERE id = 'p'",),
    Kind.INSTANCE_WITHOUT_CLAIM: (
        "UPDATE instance SET host_id = 'h2' WHERE id = '{id}'",
        "UPDATE claim SET role = 3",
    ),
    Kind.CLAIM_WITHOUT_INSTANCE: (
        (
            "INSERT INTO claim (instance_id, epoch, host_id, role, vcpus, memory_mib, disk_gib,"
            " wanted_revision)"
            " SELECT '{other}', epoch, host_id, 2, 0, 0, 0, wanted_revision FROM claim"
        ),
        "UPDATE host SET claim_count = 2",
    ),
    Kind.TASK_WITHOUT_OPERATION: ("UPDATE instance SET task = 5 WHERE id = '{id}'",),
    Kind.OPERATION_WITHOUT_TASK: (
        (
            "UPDATE operation SET finished = false, look_again_at = now(), deadline_at = now()"
            " WHERE resource_id = '{id}'"
        ),
    ),
    Kind.OPERATION_WITHOUT_INSTANCE: (
        (
            "UPDATE operation SET finished = false, look_again_at = now(), deadline_at = now(),"
            " resource_id = '{other}' WHERE resource_id = '{id}'"
        ),
    ),
    Kind.OPERATION_NOT_LOOKED_AT: (
        (
            f"UPDATE operation SET finished = false, look_again_at = {LATE}, deadline_at = now(),"
            " action = 5 WHERE resource_id = '{id}'"
        ),
    ),
    Kind.OPERATION_WITHOUT_DEADLINE: (
        "ALTER TABLE operation ALTER COLUMN deadline_at DROP NOT NULL",
        (
            "UPDATE operation SET finished = false, look_again_at = now(), deadline_at = NULL,"
            " action = 5 WHERE resource_id = '{id}'"
        ),
    ),
    Kind.OPERATION_OVERDUE: (
        (
            f"UPDATE operation SET finished = false, look_again_at = now(), deadline_at = {LATE},"
            " action = 5 WHERE resource_id = '{id}'"
        ),
    ),
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.name)
async def test_records_that_disagree_are_found(place: Place, kind: Kind) -> None:
    """Each kind, brought about by SQL behind stead's back, and nothing but it."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        for statement in BROKEN[kind]:
            place.sql(statement.format(id=stage.instance_id, other=new_id()))
        if kind is Kind.INSTANCE_WITHOUT_CLAIM:
            # Its old claim leaves now, so that its host should have stopped the guest.
            stage.hosts.guests["h1"][stage.claim] = Power.OFF
        if kind is Kind.CLAIM_WITHOUT_INSTANCE:
            stage.hosts.guests["h1"] = {stage.claim: Power.RUNNING}
        found = await differences(stage.hosts.auditor())
        assert [one.kind for one in found] == [kind]
        assert any(
            (found[0].host_id, found[0].instance_id, found[0].operation_id, found[0].project_id)
        )


def guest_of_nobody(stage: Stage) -> None:
    stage.hosts.has("h1", (new_id(), 1))


def older_epoch(stage: Stage) -> None:
    stage.hosts.has("h1", (stage.instance_id, stage.epoch - 1))


def later_history(stage: Stage) -> None:
    stage.hosts.has("h1", (new_id(), 1 << 41))


def vanished(stage: Stage) -> None:
    del stage.hosts.guests["h1"][stage.claim]


def stopped(stage: Stage) -> None:
    stage.hosts.has("h1", stage.claim, Power.OFF)


def leaves_and_runs(stage: Stage) -> None:
    stage.place.sql(f"UPDATE instance SET state = 5, host_id = '' WHERE id = '{stage.instance_id}'")
    stage.place.sql("UPDATE claim SET role = 3")


def stays(stage: Stage) -> None:
    leaves_and_runs(stage)
    vanished(stage)


def erasing(stage: Stage, since: str) -> None:
    leaves_and_runs(stage)
    stage.hosts.has("h1", stage.claim, Power.OFF)
    told = f"discard = true, discarded_at = now() - interval '{since}'"
    stage.place.sql(f"UPDATE claim SET {told}")


def never_erased(stage: Stage) -> None:
    erasing(stage, "5 min")


def silent(stage: Stage) -> None:
    vanished(stage)
    stage.hosts.silent.add("h1")


def down(stage: Stage) -> None:
    stage.place.sql("UPDATE host SET state = 2")


ON_HOSTS: dict[str, tuple[Kind, Callable[[Stage], None]]] = {
    "guest of nobody": (Kind.GUEST_WITHOUT_CLAIM, guest_of_nobody),
    "older epoch": (Kind.GUEST_EPOCH_OLDER, older_epoch),
    "later history": (Kind.GUEST_EPOCH_ABOVE_HEAD, later_history),
    "vanished": (Kind.CLAIM_WITHOUT_GUEST, vanished),
    "stopped": (Kind.POWER_DIFFERS, stopped),
    "leaves and runs": (Kind.POWER_DIFFERS, leaves_and_runs),
    "stays": (Kind.CLAIM_NOT_LEFT, stays),
    "never erased": (Kind.CLAIM_NOT_LEFT, never_erased),
    "silent": (Kind.HOST_NOT_COMPARED, silent),
    "down": (Kind.HOST_NOT_COMPARED, down),
}


async def test_a_guest_whose_word_was_just_given_is_being_erased(place: Place) -> None:
    """Its host hears of it with its next beat at the latest."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        erasing(stage, "20 s")
        await stage.hosts.tell("h1")
        assert await kinds(stage.hosts.auditor()) == []


@pytest.mark.parametrize("case", ON_HOSTS)
async def test_what_a_host_has_otherwise_is_found(place: Place, case: str) -> None:
    """In the whole cloud and of that host alone; nothing but it."""
    kind, happens = ON_HOSTS[case]
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        happens(stage)
        await stage.hosts.tell("h1")
        found = await differences(stage.hosts.auditor())
        assert [(one.kind, one.host_id) for one in found] == [(kind, "h1")]
        assert await kinds(stage.hosts.auditor(), "h1") == [kind.name]


def test_every_kind_is_brought_about_here_and_has_its_advice() -> None:
    """A new kind fails until it has a test, a cause and a mend."""
    assert set(BROKEN) | {kind for kind, _ in ON_HOSTS.values()} == set(Kind) == set(ADVICE)
    for cause, mend in ADVICE.values():
        assert cause
        assert mend


async def test_what_a_late_report_says_is_not_told(place: Place) -> None:
    """The newest report is of before a deletion: the host is asked, and all is well."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        await made.instances.delete(asked("delete_instance"), stage.instance_id)
        told = await seen(
            made, stage.instance_id, 2, absent=True, applied_generation=2, power=Power.OFF
        )
        assert await made.observer.observe([told]) == [ObservationOutcome.APPLIED]
        vanished(stage)
        assert place.sql("SELECT count(*) FROM guest") == "1"
        assert await kinds(stage.hosts.auditor()) == []
        assert stage.hosts.asked
        assert (await stage.hosts.inventorist().unknown("", ("", "", 0), 10))[0] == []


async def test_a_report_of_an_agent_that_is_gone_is_not_believed(place: Place) -> None:
    """A new agent has greeted, its inventory is lost: it is asked before anything is said."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        await made.greeter.greet(hello())
        guest_of_nobody(stage)
        assert place.sql("SELECT incarnation FROM inventory") == "1"
        assert await kinds(stage.hosts.auditor()) == ["GUEST_WITHOUT_CLAIM"]
        assert place.sql("SELECT incarnation FROM inventory") == "2"


async def test_what_waits_for_an_admins_word_is_no_difference(place: Place) -> None:
    """A claim that leaves without discard, off: what an evacuation has left."""
    async with conductor(place.url, Sent()) as made:
        stage = await staged(place, made)
        leaves_and_runs(stage)
        stopped(stage)
        await stage.hosts.tell("h1")
        assert await kinds(stage.hosts.auditor()) == []


async def test_a_host_that_is_not_there_cannot_be_audited(place: Place) -> None:
    """HOST_NOT_FOUND, not an empty audit."""
    async with conductor(place.url, Sent()) as made:
        with pytest.raises(NotFound) as refused:
            await differences(Hosts(made.store.audits).auditor(), "nowhere")
        assert refused.value.reason == "HOST_NOT_FOUND"


async def test_a_cloud_at_work_shows_no_difference(place: Place) -> None:
    """Creates, power switches and deletes go on beside audits: nothing is told that is not so."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        ids = await catalog(made)
        hosts = Hosts(made.store.audits)
        await hosts.greet("h1")
        stop = asyncio.Event()
        lives = 0

        async def live(n: int) -> None:
            nonlocal lives
            while not stop.is_set():
                name = f"w{n}-{lives}"
                lives += 1
                accepted = await made.instances.create(asked(), new_instance(name, ids))
                id_ = accepted.resource.id
                await made.decider.decide([Decision(id_, 1, "h1", 1, {})])
                told = await seen(made, id_, 1, applied_generation=1)
                hosts.has("h1", (id_, told.epoch))
                await hosts.tell("h1")
                await made.observer.observe([told])
                # Off by itself: the report may be before or after the observation.
                hosts.has("h1", (id_, told.epoch), Power.OFF)
                off = replace(told, sequence=2, power=Power.OFF)
                await asyncio.gather(hosts.tell("h1"), made.observer.observe([off]))
                await made.instances.delete(asked("delete_instance"), id_)
                del hosts.guests["h1"][id_, told.epoch]
                await made.observer.observe([replace(off, sequence=3, absent=True)])

        async def audit() -> list[str]:
            found: list[str] = []
            while lives < 120:
                found += await kinds(hosts.auditor())
            stop.set()
            return found

        found, *_ = await asyncio.gather(audit(), *(live(n) for n in range(4)))
        assert found == []
        assert await kinds(hosts.auditor()) == []
