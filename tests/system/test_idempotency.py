"""Every mutation, sent twice, a hundred times at once through two replicas, and across a kill of
the conductor: one effect, one answer.

The list of mutations is every request that has a `request_id`; one that has no example in
mutations.py fails.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from stead.v1 import flavor_pb2, host_pb2, operation_pb2

from services.runtime.ids import new_id
from tests.clouds import Cloud, cloud, kernel_tar
from tests.system.mutations import MUTATIONS, Stage, example, imported, waiting

AT_ONCE = 100


def test_there_are_mutations() -> None:
    assert len(MUTATIONS) > 15


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
    once = len(getattr(request, "instances", ())) or 1
    added = 0 if name == "CancelOperation" else once
    after = effects(stage)
    assert after[1] - before[1] == once
    assert after[0] - before[0] == added


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MUTATIONS))
async def test_the_same_id_with_another_payload_is_refused(stage: Stage, name: str) -> None:
    request = await example(stage, name)
    await stage.call(name, request)
    other = await another_payload(stage, name, request.request_id)
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
    other.request_id = request_id
    return other


async def test_across_kills_of_the_conductor_each_happens_once(stage: Stage) -> None:
    names = [name for name in sorted(MUTATIONS) if name != "CancelOperation"]
    requests = {name: await example(stage, name) for name in names}
    before = effects(stage)
    killing = asyncio.create_task(kill_again_and_again(stage.cloud.services))
    try:
        answers = {
            name: await asyncio.gather(*(stage.call(name, request, n % 2) for n in range(10)))
            for name, request in requests.items()
        }
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
    for name, found in answers.items():
        assert len({identity(answer) for answer in found}) == 1, name
    # Every mutation of the list makes one operation and one request; the batch makes three.
    expected = len(names) + 2
    after = effects(stage)
    assert (after[0] - before[0], after[1] - before[1]) == (expected, expected)


async def kill_again_and_again(services: Callable[[], dict[str, list[dict[str, Any]]]]) -> None:
    """Kills whichever conductor is up, every second."""
    while True:
        rows = await asyncio.to_thread(services)
        for row in rows.get("conductor", []):
            if row["pid"]:
                os.kill(int(row["pid"]), signal.SIGKILL)
        await asyncio.sleep(1.0)
