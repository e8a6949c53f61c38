"""Deadlines on the real store: what a silent host or scheduler never answers ends all the same,
what is to be undone stands in rows, and the death of a conductor between any two of these changes
nothing. The cases come from the table of steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest

from services.conductor.edges.bodies import MessageBodies
from services.conductor.flows.accept_evacuate import EvacuationAcceptor
from services.conductor.flows.decide import Decision
from services.conductor.flows.ports import Query
from services.conductor.logic import steps
from services.conductor.logic.items import Item, Outcome
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import Caller, OperationRow, Situation
from services.conductor.logic.step_table import ROWS, USUAL_DEADLINES
from services.domain.errors import NoCapacity
from services.domain.instance import Action, Power, State, Task
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.operation import OperationAction as A
from services.domain.operation import OperationState, Phase
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
from tests.integration.conductor.wishes import look, prepared, running

ADMIN = Caller("ann", "ops", cloud_admin=True)
Begin = Callable[[Conductor], Awaitable[str]]


async def placing(made: Conductor) -> str:
    await made.greeter.greet(hello())
    return (
        await made.instances.create(asked(), new_instance("n", await catalog(made)))
    ).resource.id


async def building(made: Conductor) -> str:
    id_ = await placing(made)
    await made.decider.decide([Decision(id_, 1, "h1", 1, {})])
    return id_


async def removing(made: Conductor) -> str:
    await made.greeter.greet(hello())
    id_ = await running(made, "runs", await catalog(made))
    await made.instances.delete(asked("delete_instance"), id_)
    return id_


def switching(action: Action) -> Begin:
    async def begin(made: Conductor) -> str:
        id_ = (await prepared(made)).of(action)
        await made.power.switch(asked(f"{action.name.lower()}_instance"), id_, action)
        return id_

    return begin


async def evacuating(made: Conductor) -> str:
    """Its first disk stays where it was, on a host that is dead."""
    id_ = (await prepared(made)).stranded_id
    evacuations = EvacuationAcceptor(made.acceptance, made.advancer)
    await evacuations.evacuate(asked("evacuate_instance", caller=ADMIN), id_)
    return id_


async def rebuilding(made: Conductor) -> str:
    id_ = await evacuating(made)
    await made.decider.decide([Decision(id_, 2, "h1", 1, {})])
    return id_


# How each phase begins, and in which state a silent world leaves the instance at the deadline.
CASES: dict[tuple[A, Phase], tuple[Begin, State]] = {
    (A.CREATE_INSTANCE, Phase.PLACING): (placing, State.ERROR),
    (A.CREATE_INSTANCE, Phase.BUILDING): (building, State.ERROR),
    (A.DELETE_INSTANCE, Phase.REMOVING): (removing, State.DELETED),
    (A.START_INSTANCE, Phase.STARTING): (switching(Action.START), State.STOPPED),
    (A.STOP_INSTANCE, Phase.STOPPING): (switching(Action.STOP), State.ACTIVE),
    (A.REBOOT_INSTANCE, Phase.REBOOTING): (switching(Action.REBOOT), State.ACTIVE),
    (A.PAUSE_INSTANCE, Phase.PAUSING): (switching(Action.PAUSE), State.ACTIVE),
    (A.UNPAUSE_INSTANCE, Phase.UNPAUSING): (switching(Action.UNPAUSE), State.PAUSED),
    (A.SUSPEND_INSTANCE, Phase.SUSPENDING): (switching(Action.SUSPEND), State.ACTIVE),
    (A.RESUME_INSTANCE, Phase.RESUMING): (switching(Action.RESUME), State.SUSPENDED),
    (A.EVACUATE_INSTANCE, Phase.PLACING): (evacuating, State.ERROR),
    (A.EVACUATE_INSTANCE, Phase.BUILDING): (rebuilding, State.ERROR),
}
EVERY = pytest.mark.parametrize(
    "case", list(CASES), ids=[f"{action.name}-{phase.name}" for action, phase in CASES]
)


def test_every_phase_of_the_table_is_tried() -> None:
    assert {(row.action, row.phase) for row in ROWS} == set(CASES)


def overdue(place: Place, id_: str) -> None:
    """Its deadline passes and the time of its look comes."""
    place.sql(
        "UPDATE operation SET deadline_at = now() - interval '1 second', look_again_at = now()"
        f" WHERE resource_id = '{id_}' AND NOT finished"
    )


async def now(place: Place, id_: str) -> Situation:
    return (await place.store.situations_read([id_]))[id_]


async def settled(place: Place, id_: str) -> Situation:
    """The situation once nothing is under way."""
    async with asyncio.timeout(60):
        while (found := await now(place, id_)).operation is not None:  # noqa: ASYNC110  # rows have no event
            await asyncio.sleep(0.01)
    return found


def check_ended(place: Place, found: Situation, case: tuple[A, Phase]) -> None:
    assert found.instance.standing.state is CASES[case][1]
    assert found.instance.standing.task is Task.NONE
    state = OperationState.DONE if case[0] is A.DELETE_INSTANCE else OperationState.FAILED
    told = place.sql(
        f"SELECT state, action FROM operation WHERE resource_id = '{found.instance.id}'"
        f" AND action = {case[0].value}"
    )
    assert told.split("|") == [str(state.value), str(case[0].value)]
    check_books(place)


async def check_told(made: Conductor, operation: OperationRow, case: tuple[A, Phase]) -> None:
    """What failed says that its time was over, and in which phase."""
    query = Query(ResourceKind.OPERATION, operation.id, "p", "", 1)
    record = (await made.store.records_read([query]))[0].records[0]
    fault = MessageBodies().operation_of(record).fault
    if case[0] is A.DELETE_INSTANCE:
        assert fault is None
    else:
        assert fault is not None
        assert (fault.reason, fault.metadata["phase"]) == ("OPERATION_OVERDUE", case[1].name)


async def confirm(made: Conductor, found: Situation) -> None:
    """The hosts of claims that are to go say, twice, that nothing of them is there."""
    for n in (50, 51):
        for claim in found.claims:
            if claim.role is ClaimRole.LEAVING and claim.discard:
                told = Seen(
                    found.instance.id, claim.epoch, claim.host_id, claim.host_incarnation, n, 0,
                    Power.OFF, absent=True,
                )  # fmt: skip
                await made.observer.observe([told])


@EVERY
async def test_what_nobody_answers_ends_at_its_deadline(
    place: Place, case: tuple[A, Phase]
) -> None:
    """And only then; what was begun stands as a claim that leaves until its host has spoken."""
    async with conductor(place.url, Sent()) as made:
        id_ = await CASES[case][0](made)
        place.sql("UPDATE operation SET look_again_at = now() WHERE NOT finished")
        await made.advancer.reconcile()
        await asyncio.sleep(0.1)
        before = await now(place, id_)
        assert before.operation is not None
        assert not before.overdue
        overdue(place, id_)
        await made.advancer.reconcile()
        found = await settled(place, id_)
        check_ended(place, found, case)
        await check_told(made, before.operation, case)
        kept = [c.epoch for c in before.claims if c.role is ClaimRole.LEAVING]
        begun = [c for c in found.claims if c.epoch not in kept]
        if case[1] in (Phase.BUILDING, Phase.REMOVING):
            assert [(c.role, c.discard) for c in begun] == [(ClaimRole.LEAVING, True)]
            used = "SELECT claim_count, used_vcpus FROM host WHERE id = 'h1'"
            count, vcpus = map(int, place.sql(used).split("|"))
            await confirm(made, found)
            assert [c.epoch for c in (await now(place, id_)).claims] == kept
            assert place.sql(used) == f"{count - 1}|{vcpus - 1}", "silence confirmed nothing"
            check_books(place)


@EVERY
async def test_a_conductor_that_dies_before_or_after_the_end_changes_nothing(
    place: Place, case: tuple[A, Phase]
) -> None:
    """One dies with the overdue operation in its hands, the next two give it up at once."""
    async with conductor(place.url, Sent()) as dies:
        id_ = await CASES[case][0](dies)
        overdue(place, id_)
        await dies.store.operations_take(10)
    overdue(place, id_)
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        for made in (one, two):
            made.advancer.nudge(id_)
        found = await settled(place, id_)
        for made in (one, two):
            await made.advancer.reconcile()
    check_ended(place, found, case)
    ended = place.sql(f"SELECT count(*) FROM change WHERE kind = 1 AND id = '{id_}'")
    async with conductor(place.url, Sent()) as later:
        later.advancer.nudge(id_)
        await later.advancer.reconcile()
        await confirm(later, found)
    assert place.sql(f"SELECT count(*) FROM change WHERE kind = 1 AND id = '{id_}'") == ended
    check_books(place)


@EVERY
async def test_an_end_that_cannot_be_committed_is_tried_again_at_the_next_look(
    place: Place, case: tuple[A, Phase]
) -> None:
    """The error comes at the one commit of the step: nothing of it is there, and then all."""
    async with conductor(place.url, Sent()) as made:
        id_ = await CASES[case][0](made)
        real, failed = made.store.items_commit, asyncio.Event()

        async def refuse(items: Sequence[Item]) -> list[Outcome]:
            if any(o.finished for item in items for o in item.operations) and not failed.is_set():
                failed.set()
                raise asyncpg.DeadlockDetectedError("injected")
            return await real(items)

        made.store.items_commit = refuse  # type: ignore[method-assign]  # this store is the test's
        before = await now(place, id_)
        overdue(place, id_)
        await made.advancer.reconcile()
        await asyncio.wait_for(failed.wait(), 60)
        after = await now(place, id_)
        assert (after.instance, after.claims) == (before.instance, before.claims)
        overdue(place, id_)
        await made.advancer.reconcile()
        check_ended(place, await settled(place, id_), case)


class Gone(Sent):
    """A bus that takes nothing any more."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False

    async def place(self, places: Sequence[steps.Place], min_revision: int) -> None:
        if self.gone:
            raise ConnectionError("no bus")
        await super().place(places, min_revision)


async def test_a_deadline_ends_what_waits_though_the_bus_is_gone_for_good(place: Place) -> None:
    """MECHANICS B5: beside another in the same round, for which nobody can be asked."""
    bus = Gone()
    async with conductor(place.url, bus) as made:
        id_ = await building(made)
        ids = await catalog(made, suffix="-2")
        bus.gone = True
        other = await made.instances.create(asked(), new_instance("waits", ids))
        overdue(place, id_)
        place.sql("UPDATE operation SET look_again_at = now() WHERE NOT finished")
        await made.advancer.reconcile()
        check_ended(place, await settled(place, id_), (A.CREATE_INSTANCE, Phase.BUILDING))
        assert (await now(place, other.resource.id)).operation is not None


async def test_an_end_that_cannot_be_committed_holds_up_no_other_of_its_round(
    place: Place,
) -> None:
    """What waits for a host beside it is asked for all the same."""
    bus = Sent()
    async with conductor(place.url, bus) as made:
        id_ = await building(made)
        ids = await catalog(made, suffix="-2")
        other = await made.instances.create(asked(), new_instance("waits", ids))
        overdue(place, id_)
        bus.places.clear()

        async def full(*_: object) -> Outcome:
            raise NoCapacity("LANE_FULL", "too much at once")

        made.advancer._committer.commit = full  # type: ignore[method-assign]  # this one is the test's
        await made.advancer._round([id_, other.resource.id])
        assert [row.id for row, _ in bus.places] == [other.resource.id]
        assert (await now(place, id_)).operation is not None


@EVERY
async def test_the_deadline_is_that_of_the_phase_and_stays_within_it(
    place: Place, case: tuple[A, Phase]
) -> None:
    async with conductor(place.url, Sent()) as made:
        id_ = await CASES[case][0](made)
        left = "SELECT extract(epoch FROM deadline_at - now()) FROM operation WHERE NOT finished"
        left += f" AND resource_id = '{id_}'"
        expected = USUAL_DEADLINES.of(*case)
        assert expected - 60 < float(place.sql(left)) <= expected
        found = await now(place, id_)
        assert found.operation is not None
        assert found.operation.deadline_at_s == found.operation.phases[-1][1] + expected
        place.sql("UPDATE operation SET deadline_at = now() + interval '7 seconds'")
        if found.holder is not None:
            told = await look(
                made, id_, 20, progress="half", power=Power.PENDING, applied_generation=0
            )
            await made.observer.observe([told])
        assert float(place.sql(left)) < 8
        place.sql("UPDATE operation SET look_again_at = now(), looks = 20")
        place.sql("UPDATE operation SET created_at = now() - interval '1 hour'")
        await made.store.operations_take(10)
        late = place.sql(
            "SELECT bool_and(look_again_at <= deadline_at) FROM operation WHERE NOT finished"
        )
        assert late == "t", "no look falls behind the deadline"


async def test_a_read_operation_tells_its_next_look_and_its_tries(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        id_ = await placing(made)
        place.sql("UPDATE operation SET look_again_at = now()")
        await made.store.operations_take(10)
        operation = (await now(place, id_)).operation
        assert operation is not None
        queries = [
            Query(ResourceKind.OPERATION, operation.id, "p", "", 1),
            Query(ResourceKind.OPERATION, "", "p", "", 10),
        ]
        await made.instances.delete(asked("delete_instance"), id_)
        ended = (await made.store.records_read(queries))[0].records[0]
        assert (ended.next_look_us, ended.looks) == (0, 0), "what has ended is not looked at"
        other = await made.instances.create(
            asked(), new_instance("o", await catalog(made, suffix="2"))
        )
        place.sql("UPDATE operation SET look_again_at = now() WHERE NOT finished")
        await made.store.operations_take(10)
        single = Query(ResourceKind.OPERATION, other.operation.id, "p", "", 1)
        for query, looks in ((single, 1), (queries[1], 0)):
            record = (await made.store.records_read([query]))[0].records[-1]
            assert (record.id, record.looks) == (other.operation.id, looks)
            # A list is true to a revision, and a look makes none.
            assert (record.next_look_us > 1_700_000_000_000_000) == bool(looks)
