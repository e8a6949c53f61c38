"""Every mutation, sent twice, a hundred times at once through two replicas, and across a kill of
the conductor: one effect, one answer.

The list of mutations is every method that takes a `request_id`, uploads too; one that has no
example in mutations.py fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from stead.v1 import flavor_pb2, host_pb2, operation_pb2

from services.runtime.ids import new_id
from tests.clouds import Cloud, cloud, kernel_tar
from tests.system.mutations import MUTATIONS, Stage, asked, example, imported, waiting

AT_ONCE = 100
# So many ask the same thing over and over while the conductor is killed.
ASKING = 6
# Asked across a kill in `make test` as well; all others in `make test-all`.
KILLED_ALWAYS = "CreateInstance"


def test_there_are_mutations() -> None:
    assert len(MUTATIONS) > 15
    assert {"CreateInstance", "ImportImage", "CancelOperation"} <= set(MUTATIONS)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cloud, Any]]:
    with cloud("--driver", "fake", "--fake-hosts", "4", "--api-replicas", "2") as made:
        yield made, kernel_tar(tmp_path_factory.mktemp("once") / "k.tar")


@pytest.fixture
async def stage(running: tuple[Cloud, Any]) -> AsyncIterator[Stage]:
    of, tar = running
    endpoints = [row["endpoint"] for row in of.services()["api"]]
    assert len(endpoints) == 2
    channels = [grpc.aio.insecure_channel(endpoint) for endpoint in endpoints]
    made = Stage(of, channels)
    request = flavor_pb2.CreateFlavorRequest(
        request_id=new_id(), name=f"f{new_id()[-12:]}", vcpus=1, memory_mib=64, disk_gib=1
    )
    made.flavor_id = (await made.call("CreateFlavor", request)).flavor.id
    made.image_id = await imported(made, tar.read_bytes())
    yield made
    for channel in channels:
        await channel.close()


@pytest.fixture(autouse=True)
def scheduler_goes_on(running: tuple[Cloud, Any]) -> Iterator[None]:
    yield
    for row in running[0].services()["scheduler"]:
        os.kill(int(row["pid"]), signal.SIGCONT)


def identity(answer: Any) -> tuple[Any, ...]:
    """What must be the same in every answer to one request: ids of things and of operations."""
    if hasattr(answer, "results"):
        return tuple(identity(result.created) for result in answer.results)
    resource = answer.DESCRIPTOR.fields[0].name
    first = getattr(answer, resource)
    own = first.project_id if resource == "quota" else first.id
    operation = answer.operation.id
    assert own
    assert operation
    return (resource, own, operation)


def effects(stage: Stage) -> tuple[int, int]:
    """How many operations and requests there ever were."""
    rows = stage.cloud.sql(
        "SELECT (SELECT count(*) FROM operation), (SELECT count(*) FROM request)"
    )
    operations, requests = rows.split("|")
    return int(operations), int(requests)


@pytest.mark.parametrize("name", sorted(MUTATIONS))
async def test_sent_a_hundred_times_through_two_replicas_it_happens_once(
    stage: Stage, name: str
) -> None:
    request = await example(stage, name)
    before = effects(stage)
    answers = await asyncio.gather(
        *(stage.call(name, request, replica=n % 2) for n in range(AT_ONCE))
    )
    again = await stage.call(name, request)
    assert {identity(answer) for answer in [*answers, again]} == {identity(again)}
    assert_done_once(name, request, before, effects(stage))


def assert_done_once(
    name: str, request: Any, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Exactly what one call of this mutation leaves behind."""
    once = len(getattr(request, "instances", ())) or 1
    assert after[0] - before[0] == (0 if name == "CancelOperation" else once)
    # A batch is remembered beside what is in it.
    assert after[1] - before[1] == once + (name == "BatchCreateInstances")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MUTATIONS))
async def test_the_same_id_with_another_payload_is_refused(stage: Stage, name: str) -> None:
    request = await example(stage, name)
    await stage.call(name, request)
    other = await another_payload(stage, name, asked(request).request_id)
    before = effects(stage)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.call(name, other)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
    assert "REQUEST_ID_REUSED" in str(refused.value.trailing_metadata())
    assert effects(stage) == before


async def another_payload(stage: Stage, name: str, request_id: str) -> Any:
    """A request that differs in what it asks, under the same id."""
    if name in ("EnableHost", "DisableHost"):
        hosts = stage.cloud.json("host", "list")
        other = getattr(host_pb2, f"{name}Request")(request_id=request_id, id=hosts[1]["id"])
        if name == "DisableHost":
            other.reason = "for another reason"
        return other
    if name == "CancelOperation":
        return operation_pb2.CancelOperationRequest(request_id=request_id, id=await waiting(stage))
    other = await example(stage, name)
    asked(other).request_id = request_id
    return other


def conductor(stage: Stage) -> dict[str, Any]:
    """The seat of the conductor, as the supervisor last wrote it down."""
    written = json.loads((stage.cloud.home / "run" / "state.json").read_text())
    [seat] = [seat for seat in written["seats"] if seat["name"] == "conductor"]
    return dict(seat)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == KILLED_ALWAYS else [pytest.mark.slow])
        for name in sorted(MUTATIONS)
    ],
)
@pytest.mark.parametrize("answered", [0, 1])
async def test_across_a_kill_of_the_conductor_it_happens_once(
    stage: Stage, name: str, answered: int
) -> None:
    """Killed while the first calls are on their way, or after the first answer; asked on."""
    request = await example(stage, name)
    before = effects(stage)
    seat = conductor(stage)
    answers: list[Any] = []
    first_answer, killed = asyncio.Event(), asyncio.Event()

    async def ask_on(replica: int) -> None:
        after_kill = False
        while not after_kill:
            after_kill = killed.is_set()
            answers.append(await stage.call(name, request, replica))
            first_answer.set()

    asking = [asyncio.create_task(ask_on(n % 2)) for n in range(ASKING)]
    await (first_answer.wait() if answered else asyncio.sleep(0.004))
    os.kill(int(seat["pid"]), signal.SIGKILL)
    killed.set()
    await asyncio.gather(*asking)
    assert len({identity(answer) for answer in answers}) == 1
    assert conductor(stage)["restarts"] > seat["restarts"], "the conductor was not killed"
    assert_done_once(name, request, before, effects(stage))
