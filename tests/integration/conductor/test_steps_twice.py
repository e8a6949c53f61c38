"""Every step of every operation, taken twice by two conductors, whose first dies in between: it
still succeeds, and nothing is done twice. The cases are those of the table of steps.
"""

from __future__ import annotations

from services.conductor.flows.decide import Decision
from services.domain.instance import State, Task
from services.domain.kinds import ClaimRole
from services.domain.operation import OperationAction as A
from services.domain.operation import OperationState, Phase
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Conductor, Sent, conductor
from tests.integration.conductor.test_deadlines import CASES, EVERY, now, settled
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.wishes import look

ENDS = {
    A.CREATE_INSTANCE: State.ACTIVE,
    A.DELETE_INSTANCE: State.DELETED,
    A.START_INSTANCE: State.ACTIVE,
    A.STOP_INSTANCE: State.STOPPED,
    A.REBOOT_INSTANCE: State.ACTIVE,
    A.PAUSE_INSTANCE: State.PAUSED,
    A.UNPAUSE_INSTANCE: State.ACTIVE,
    A.SUSPEND_INSTANCE: State.SUSPENDED,
    A.RESUME_INSTANCE: State.ACTIVE,
    A.EVACUATE_INSTANCE: State.ACTIVE,
}
HELD, KEPT = (ClaimRole.HOLDER, False), (ClaimRole.LEAVING, False)
# What is left of each action, where it is not the one claim of the instance.
CLAIMS = {A.DELETE_INSTANCE: [], A.EVACUATE_INSTANCE: [KEPT, HELD]}


async def step(place: Place, made: Conductor) -> None:
    """The reconciler's look at all that is under way."""
    place.sql("UPDATE operation SET look_again_at = now() WHERE NOT finished")
    await made.advancer.reconcile()


async def answer(place: Place, made: Conductor, id_: str, twice: int) -> None:
    """What the scheduler and the host say, each word twice."""
    attempt = (await now(place, id_)).instance.attempt
    for _ in range(2):
        await made.decider.decide([Decision(id_, attempt, "h1", 1, {})])
    found = await now(place, id_)
    if found.holder is None:
        return
    wanted, generation = found.instance.wanted, found.instance.generation
    told = await look(
        made, id_, 30 + twice,
        applied_generation=generation,
        power=wanted.power,
        absent=not wanted.present,
    )  # fmt: skip
    for _ in range(2):
        await made.observer.observe([told])


@EVERY
async def test_each_step_taken_twice_still_succeeds(place: Place, case: tuple[A, Phase]) -> None:
    async with conductor(place.url, Sent()) as dies:
        id_ = await CASES[case][0](dies)
        await step(place, dies)
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        for n, made in enumerate((one, two)):
            await step(place, one)
            await step(place, two)
            await answer(place, made, id_, n)
        found = await settled(place, id_)
    assert found.instance.standing.state is ENDS[case[0]]
    assert found.instance.standing.task is Task.NONE
    states = place.sql(
        f"SELECT state FROM operation WHERE resource_id = '{id_}' AND action = {case[0].value}"
    )
    assert states == str(OperationState.DONE.value)
    assert [(c.role, c.discard) for c in found.claims] == CLAIMS.get(case[0], [HELD])
    check_books(place)
