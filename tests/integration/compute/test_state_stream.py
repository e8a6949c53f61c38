"""The stream of a host: what it carries when several tasks of an agent speak at once."""

import asyncio

from services.compute.edges.drivers.fake import FakeDriver
from services.compute.edges.ingress import GrpcIngress
from services.compute.edges.replicas import Door, Replicas
from services.compute.flows.ports import Beat, BeatAnswered, Hello, HostProfile
from services.compute.logic.wanted import View
from services.domain.resources import Overcommit, Resources
from tests.integration.compute.conftest import CAPACITY, Stage

BEATS = 200


async def hello(driver: FakeDriver) -> Hello:
    profile = HostProfile("h1", "m1", "b1", "0", Resources(0, 0, 0), Overcommit())
    return Hello(profile, CAPACITY, await driver.capabilities(), ())


async def test_a_beat_that_falls_into_another_saying_waits_its_turn(stage: Stage):
    replicas = Replicas([stage.target])
    stage.stack.push_async_callback(replicas.close)
    async with GrpcIngress(Door(replicas, "h1")).open_states() as stream, asyncio.timeout(60):
        await stream.send(await hello(stage.driver()))
        assert isinstance(await stream.receive(), View)
        await asyncio.gather(*(stream.send(Beat()) for _ in range(BEATS)))
        answers = [await stream.receive() for _ in range(BEATS)]
    assert all(isinstance(answer, BeatAnswered) for answer in answers)
