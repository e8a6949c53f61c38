"""A conductor process dies by SIGKILL right before and right after each step of the table; the next
one brings the operation to its end, and nothing is leaked. The cases come from the table.
"""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import nats
import pytest
from stead.internal.v1 import conductor_pb2_grpc

from services.conductor.logic.guest_policy import MADE
from services.conductor.logic.rows import Situation
from services.conductor.logic.step_table import ROWS, Row, StepKind, When
from services.domain.instance import Task
from services.domain.kinds import ClaimRole
from services.domain.operation import OperationAction as A
from services.domain.operation import Phase
from services.runtime import rpc
from tests.engines import Nats, nats_server
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Conductor, Sent, asked, conductor, hello
from tests.integration.conductor.processes import Cloud, Process, all_ended
from tests.integration.conductor.test_deadlines import CASES, now, overdue
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.test_steps_twice import ENDS
from tests.integration.conductor.wishes import down
from tests.stores import CLOUD

MOMENTS = ("before", "after")
# In `make test` each kind of step once; all of them in `make test-all`.
QUICK = {
    (A.CREATE_INSTANCE, When.UNHELD, "after"),
    (A.CREATE_INSTANCE, When.HELD, "before"),
    (A.DELETE_INSTANCE, When.HOST_DOWN, "after"),
    (A.EVACUATE_INSTANCE, When.HOST_FENCED, "after"),
    (A.STOP_INSTANCE, When.OVERDUE, "before"),
}


def cases() -> list[object]:
    found = []
    for row in ROWS:
        for moment in MOMENTS if row.step is not StepKind.WAIT else ():
            quick = (row.action, row.when, moment) in QUICK
            name = f"{row.action.name}-{row.phase.name}-{row.when.name}-{moment}"
            marks = () if quick else (pytest.mark.slow,)
            found.append(pytest.param(row, moment, id=name, marks=marks))
    return found


async def begun(made: Conductor, place: Place, row: Row) -> str:
    """An instance in the phase of the row, where the row holds."""
    id_ = await CASES[row.action, row.phase][0](made)
    if row.when in (When.HOST_DOWN, When.HOST_FENCED):
        await made.greeter.greet(hello("h2"))
        await down(made, "h1")
    if row.when is When.HOST_FENCED:
        await made.hosts.fence(asked("fence_host"), "h1", "burnt")
    if row.when is When.OVERDUE:
        overdue(place, id_)
    # Whatever else the ground has under way is not looked at.
    place.sql("UPDATE operation SET look_again_at = now() + interval '1 h' WHERE NOT finished")
    place.sql(f"UPDATE operation SET look_again_at = now() WHERE resource_id = '{id_}'")
    return id_


async def killed(process: Process, row: Row, moment: str, id_: str) -> None:
    """Has it die at the step; a step that is not taken would leave it alive."""
    await process.start("tests.integration.conductor.dying", row.step.name, moment, id_)
    try:
        assert await process.exited() == -signal.SIGKILL
    finally:
        # One that was never at the step would run on.
        await process.end()


def scripted(process: Process, stub: conductor_pb2_grpc.ConductorServiceAsyncStub) -> Cloud:
    """The hosts that are up, as they were greeted; they do what they are told, and never fail."""
    cloud = Cloud([process], [stub], None, Random(5), failing=0.0)  # type: ignore[arg-type]  # set when it is there
    cloud.incarnations = {"h1": 1, "h2": 1}
    cloud.sequences = {"h1": 100, "h2": 100}
    return cloud


async def finished(process: Process, bus: Nats, place: Place, row: Row, id_: str) -> None:
    """Another conductor, with hosts and a scheduler that answer, until nothing is under way."""
    async with rpc.channel(process.target) as channel:
        cloud = scripted(process, conductor_pb2_grpc.ConductorServiceStub(channel))
        cloud.bus = await nats.connect(bus.url, user="stead", password="secret")
        try:
            await cloud.bus.subscribe(f"stead.{CLOUD}.place", cb=cloud.on_place)
            await cloud.bus.subscribe(f"stead.{CLOUD}.host.*.command", cb=cloud.on_command)
            if row.when in (When.HOST_DOWN, When.HOST_FENCED):
                del cloud.incarnations["h1"]
            await process.start()
            await channel.channel_ready()
            place.sql("UPDATE operation SET look_again_at = now() WHERE NOT finished")
            await all_ended(place)
        finally:
            for task in list(cloud.work):
                task.cancel()
            await cloud.bus.close()
            assert await process.end() == 0


def check(place: Place, found: Situation, row: Row) -> None:
    """Its end state or its start state, claims that are accounted for, and books that agree."""
    end = CASES[row.action, row.phase][1] if row.when is When.OVERDUE else ENDS[row.action]
    assert (found.instance.standing.state, found.instance.standing.task) == (end, Task.NONE)
    holders = [c for c in found.claims if c.role is ClaimRole.HOLDER]
    assert len(holders) == (end in MADE)
    for claim in found.claims:
        assert claim.role in (ClaimRole.HOLDER, ClaimRole.LEAVING)
    check_books(place)


@pytest.mark.parametrize(("row", "moment"), cases())
async def test_a_conductor_killed_around_a_step_loses_and_leaks_nothing(
    place: Place, tmp_path_factory: pytest.TempPathFactory, row: Row, moment: str
) -> None:
    folder: Path = tmp_path_factory.mktemp("steps")
    async with conductor(place.url, Sent()) as made:
        id_ = await begun(made, place, row)
    with nats_server(folder / "nats") as bus:
        process = Process(folder, place, bus, 0)
        await killed(process, row, moment, id_)
        await finished(process, bus, place, row, id_)
    check(place, await now(place, id_), row)


def test_each_phase_of_the_table_is_among_the_cases() -> None:
    """By construction; a phase that only waits would have no step to be killed at."""
    steps = {(row.action, row.phase) for row in ROWS if row.step is not StepKind.WAIT}
    assert steps == set(CASES)
    assert Phase.ENDED not in {phase for _, phase in steps}
