"""Every wish across the death of its conductor: one effect, one answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc
from stead.v1 import project_pb2

from services.domain.resources import Resources
from services.runtime import rpc
from services.runtime.ids import new_id
from tests.engines import nats_server
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Conductor, Sent, catalog, conductor
from tests.integration.conductor.processes import Cloud, Process
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.wishes import (
    WISHES,
    Ground,
    mutation,
    prepared,
    running,
    send,
)

COPIES = 3
KILLS = 3
# Each changes an instance that runs.
ON_RUNNING = (
    "delete_instance", "update_instance", "stop_instance", "reboot_instance", "pause_instance",
    "suspend_instance",
)  # fmt: skip


async def grounds(made: Conductor) -> dict[str, Ground]:
    """For each wish its own ground, so that none is in another's way."""
    first = await prepared(made)
    ids = (first.flavor_id, first.image_id)
    found: dict[str, Ground] = {}
    for wish in WISHES:
        found[wish] = first
        if wish in ON_RUNNING:
            found[wish] = replace(first, active_id=await running(made, wish, ids))
    other = await catalog(made, Resources(1, 50, 1), suffix="-doomed")
    for wish in ("delete_flavor", "delete_image"):
        found[wish] = replace(first, flavor_id=other[0], image_id=other[1])
    return found


async def wished(made: Conductor) -> dict[str, conductor_pb2.Mutation]:
    """One wish of each kind."""
    messages = {wish: WISHES[wish][0](ground) for wish, ground in (await grounds(made)).items()}
    await send(
        made,
        mutation("create_project", project_pb2.CreateProjectRequest(request_id=new_id(), id="d")),
    )
    messages["delete_project"].id = "d"
    return {wish: mutation(wish, message) for wish, message in messages.items()}


async def test_every_wish_has_one_effect_and_one_answer_across_kills_of_the_conductor(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each is sent several times at once and again until it is answered, while the conductor is
    killed and comes back; then once more: nothing changes any more.
    """
    folder = tmp_path_factory.mktemp("killed")
    async with conductor(place.url, Sent()) as made:
        wishes = await wished(made)
    # The conductor's process looks at leases: those of hosts that are down have lapsed.
    place.sql("UPDATE lease SET beat_at = now() - interval '1 h' WHERE host_id <> 'h1'")
    with nats_server(folder / "nats") as bus:
        process = Process(folder, place, bus, 0)
        await process.start()
        try:
            async with rpc.channel(process.target) as channel:
                stub = conductor_pb2_grpc.ConductorServiceStub(channel)
                cloud = Cloud([process], [stub], None, Random(3))  # type: ignore[arg-type]  # no bus is needed
                answers = await _sent(cloud, process, wishes)
                before = place.sql("SELECT revision FROM counter")
                last = {wish: await cloud.accept(one) for wish, one in wishes.items()}
                assert place.sql("SELECT revision FROM counter") == before
        finally:
            await process.end()
    for wish, results in answers.items():
        assert not [r.error for r in results if r.HasField("error")], wish
        ids = {(r.resource.id, r.operation.id) for r in (*results, last[wish])}
        assert len(ids) == 1, wish
    check_books(place)


async def _sent(
    cloud: Cloud, process: Process, wishes: dict[str, conductor_pb2.Mutation]
) -> dict[str, list[Any]]:
    """The answers to each wish; the conductor dies whenever another part of them is answered."""
    answered: asyncio.Queue[None] = asyncio.Queue()

    async def once(one: conductor_pb2.Mutation, n: int) -> Any:
        await asyncio.sleep(n * 0.01)
        answer = await cloud.accept(one)
        answered.put_nowait(None)
        return answer

    tasks = {
        wish: [asyncio.create_task(once(one, n + 5 * copy)) for copy in range(COPIES)]
        for n, (wish, one) in enumerate(wishes.items())
    }
    for _ in range(KILLS):
        for _ in range(len(wishes) * COPIES // (KILLS + 1)):
            await answered.get()
        await process.kill()
        await process.start()
    return {wish: await asyncio.gather(*copies) for wish, copies in tasks.items()}


async def test_a_conductor_keeps_partitions_of_the_log_ahead(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By itself, for as long as it runs: the head must never come to where there is none."""
    folder = tmp_path_factory.mktemp("tends")
    ahead = "SELECT coalesce(max(upper), 0) > 10000000 FROM change_part"
    assert place.sql(ahead) == "f"
    place.sql("UPDATE counter SET revision = 10000000")
    with nats_server(folder / "nats") as bus:
        process = Process(folder, place, bus, 0)
        await process.start()
        try:
            async with asyncio.timeout(90):
                while place.sql(ahead) == "f":  # noqa: ASYNC110  # the database has no event
                    await asyncio.sleep(0.2)
        finally:
            assert await process.end() == 0
