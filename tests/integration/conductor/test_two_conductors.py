"""Two conductor processes on one database and one bus: killed, ended, and given bad items."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import grpc
import pytest
from nats.aio.msg import Msg
from stead.internal.v1 import compute_pb2, conductor_pb2, resource_pb2
from stead.v1 import flavor_pb2, instance_pb2

from tests.integration.conductor.conftest import Place
from tests.integration.conductor.processes import (
    AWAY,
    ME,
    Cloud,
    all_ended,
    catalog,
    create,
    two_conductors,
)
from tests.integration.conductor.test_flow import check_books
from tests.stores import CLOUD

INSTANCES = 60
LOG_START = conductor_pb2.ReadChangesRequest(limit=1)


@pytest.fixture
async def cloud(place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    async with two_conductors(place, tmp_path_factory.mktemp("two")) as made:
        yield made


async def one_life(cloud: Cloud, n: int, ids: tuple[str, str]) -> None:
    """A create, asked for twice at once through any conductors; every third is deleted."""
    mutation = create(f"n{n}", ids, str(uuid.uuid4()))
    twins = await asyncio.gather(cloud.accept(mutation), cloud.accept(mutation))
    assert not any(twin.HasField("error") for twin in twins), twins
    assert twins[0].resource.id == twins[1].resource.id
    assert twins[0].operation.id == twins[1].operation.id
    if n % 3 == 0:
        await asyncio.sleep(cloud.random.random())
        delete = instance_pb2.DeleteInstanceRequest(
            request_id=str(uuid.uuid4()), id=twins[0].resource.id
        )
        await cloud.accept(conductor_pb2.Mutation(caller=ME, delete_instance=delete))


async def test_two_conductors_that_die_and_return_keep_one_set_of_books(
    cloud: Cloud, place: Place
) -> None:
    """Creates, decisions and observations go to both at once, each is killed once, a host greets
    again: every operation ends, revisions and versions have no gap, each instance has at most one
    holder, and the ledger is the sum of the claims.
    """
    feed: set[int] = set()

    async def on_feed(message: Msg) -> None:
        batch = resource_pb2.FeedBatch.FromString(message.data)
        feed.update(change.revision for change in batch.changes)

    await cloud.bus.subscribe(f"stead.{CLOUD}.feed", cb=on_feed)
    ids = await catalog(cloud)
    lives = asyncio.gather(*(one_life(cloud, n, ids) for n in range(INSTANCES)))
    for process in cloud.processes:
        await asyncio.sleep(0.7)
        await process.kill()
        await cloud.greet("h0")
        await process.start()
    await lives
    await all_ended(place)
    check_books(place)
    assert place.sql("SELECT count(*) FROM instance") == str(INSTANCES)
    assert place.sql("SELECT count(*) FROM request WHERE method = 'create_instance'") == "60"
    # ACTIVE has a holder, ERROR and DELETED have none.
    assert not place.sql(
        "SELECT i.id, i.state FROM instance i LEFT JOIN claim c ON c.instance_id = i.id"
        " GROUP BY i.id HAVING i.state NOT IN (3, 5, 6)"
        " OR count(c.epoch) <> CASE WHEN i.state = 3 THEN 1 ELSE 0 END"
    )
    assert int(place.sql("SELECT count(*) FROM instance WHERE state = 3")) > INSTANCES // 3
    # What was not heard on the bus was committed by one that died before it could say it.
    assert len(feed) > int(place.sql("SELECT max(revision) FROM change")) * 0.8
    for stub in cloud.stubs:
        await cloud.insist(lambda stub=stub: stub.ReadChanges(LOG_START, timeout=10))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    assert [await process.end() for process in cloud.processes] == [0, 0]


async def test_a_conductor_that_is_told_to_end_answers_what_it_took(
    cloud: Cloud, place: Place
) -> None:
    """No caller sees a bug because of a restart: SIGTERM drains, and new calls are UNAVAILABLE."""
    ids = await catalog(cloud)
    first = cloud.stubs[0]
    calls = [
        first.Accept(
            conductor_pb2.AcceptRequest(mutations=[create(f"n{n}", ids, str(uuid.uuid4()))]),
            timeout=20,
        )
        for n in range(200)
    ]
    answers = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert await cloud.processes[0].end() == 0
    for answer in await answers:
        if isinstance(answer, BaseException):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code() in AWAY, answer
        else:
            assert not answer.results[0].HasField("error"), answer


async def test_one_bad_item_does_not_fail_its_neighbours(cloud: Cloud) -> None:
    """Each item has its own result, whatever the others are."""
    await catalog(cloud)
    stub = cloud.stubs[0]
    good = flavor_pb2.CreateFlavorRequest(
        request_id=str(uuid.uuid4()), name="good", vcpus=1, memory_mib=64, disk_gib=1
    )
    told = await stub.Accept(
        conductor_pb2.AcceptRequest(
            mutations=[
                conductor_pb2.Mutation(caller=ME),
                conductor_pb2.Mutation(caller=ME, register_image=conductor_pb2.RegisterImage()),
                create("bad", ("nonsense", "x\0"), str(uuid.uuid4())),
                conductor_pb2.Mutation(
                    caller=ME,
                    delete_instance=instance_pb2.DeleteInstanceRequest(request_id="?", id="?"),
                ),
                conductor_pb2.Mutation(
                    caller=ME, create_flavor=flavor_pb2.CreateFlavorRequest(request_id="?")
                ),
                conductor_pb2.Mutation(caller=ME, create_flavor=good),
            ]
        ),
        timeout=20,
    )
    assert [r.HasField("error") for r in told.results] == [True] * 5 + [False]
    read = await stub.Read(
        conductor_pb2.ReadRequest(
            queries=[
                conductor_pb2.Query(caller=ME),
                conductor_pb2.Query(caller=ME, kind=resource_pb2.RESOURCE_KIND_FLAVOR, id="?"),
                conductor_pb2.Query(caller=ME, kind=resource_pb2.RESOURCE_KIND_FLAVOR, limit=9),
            ]
        ),
        timeout=20,
    )
    assert [r.HasField("error") for r in read.results] == [True, True, False]
    assert len(read.results[2].resources) == 2
    strange = compute_pb2.Observation(sequence=1, instance_id="?", epoch=1)
    strange.power = 77  # type: ignore[assignment]  # a number of a later release
    observed = await stub.Observe(
        conductor_pb2.ObserveRequest(
            observations=[
                conductor_pb2.HostObservation(host_id="h1", incarnation=1, observation=strange)
            ]
        ),
        timeout=20,
    )
    assert [r.outcome for r in observed.results] == [compute_pb2.OBSERVATION_OUTCOME_NO_SUCH_CLAIM]
