"""The door of computes: what hosts say reaches the conductor, and bytes and consoles go their own
roads.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from stead.internal.v1 import compute_pb2 as pb
from stead.v1 import host_pb2, instance_pb2

from tests.integration.api.cloud import ApiCloud, User, refusal
from tests.integration.api.test_api_service import created

Said = pb.StreamInstanceStatesRequest


class Agent:
    """The stream of one host."""

    def __init__(self, stream: Any, host_id: str) -> None:
        self.stream = stream
        self.host_id = host_id
        self.sequence = 0

    async def tell(self, **said: Any) -> None:
        await self.stream.write(Said(**said))

    async def say(self, **said: Any) -> Any:
        await self.tell(**said)
        return await asyncio.wait_for(self.stream.read(), 30)

    async def hello(self) -> pb.View:
        capacity = host_pb2.Resources(vcpus=4, memory_mib=4096, disk_gib=40)
        told = await self.say(hello=pb.Hello(host_id=self.host_id, capacity=capacity))
        view: pb.View = told.view
        return view

    async def observe(self, instance_id: str, epoch: int, **seen: Any) -> Any:
        return await self.say(observations=self.seen(instance_id, epoch, **seen))

    def seen(self, instance_id: str, epoch: int, **seen: Any) -> pb.Observations:
        self.sequence += 1
        observation = pb.Observation(
            sequence=self.sequence, instance_id=instance_id, epoch=epoch, **seen
        )
        return pb.Observations(observations=[observation])


@asynccontextmanager
async def agent(cloud: ApiCloud, host_id: str) -> AsyncIterator[Agent]:
    stream = cloud.ingress.StreamInstanceStates()
    try:
        yield Agent(stream, host_id)
    finally:
        stream.cancel()


async def with_guest(cloud: ApiCloud, user: User, host_id: str, epoch: int = 5) -> str:
    instance_id: str = (await created(cloud, user)).instance.id
    await cloud.conductor.change_instance(instance_id, host_id=host_id, epoch=epoch)
    return instance_id


async def test_what_a_host_saw_is_committed_and_acknowledged(cloud: ApiCloud) -> None:
    user = cloud.user("seen", "member")
    instance_id = await with_guest(cloud, user, "h-seen")
    async with agent(cloud, "h-seen") as host:
        view = await host.hello()
        assert (view.host_id, view.incarnation) == ("h-seen", 1)
        told = await host.observe(instance_id, 5, power=instance_pb2.INSTANCE_POWER_RUNNING)
        (result,) = told.acknowledgements.results
        assert (result.sequence, result.outcome) == (1, pb.OBSERVATION_OUTCOME_APPLIED)
        told = await host.observe(instance_id, 4)
        (result,) = told.acknowledgements.results
        assert (result.sequence, result.outcome) == (2, pb.OBSERVATION_OUTCOME_NO_SUCH_CLAIM)
        told = await host.say(beat=pb.Beat())
        assert told.beat_answer.wanted_revision > 0
        told = await host.say(view_wanted=pb.ViewWanted())
        assert told.view.incarnation == 1
    shown = await user.GetInstance(instance_pb2.GetInstanceRequest(id=instance_id))
    assert shown.instance.state == instance_pb2.INSTANCE_STATE_ACTIVE
    listed = await cloud.admin().GetHost(host_pb2.GetHostRequest(id="h-seen"))
    assert (listed.host.target.vcpus, listed.host.used.vcpus, listed.host.claims) == (4, 1, 1)


async def test_an_older_agent_is_told_that_its_time_is_over(cloud: ApiCloud) -> None:
    instance_id = await with_guest(cloud, cloud.user("over", "member"), "h-over")
    for word in ("beat", "view_wanted", "observation"):
        async with agent(cloud, "h-over") as older, agent(cloud, "h-over") as newer:
            await older.hello()
            await newer.hello()
            if word == "observation":
                told = await older.observe(instance_id, 5)
                (result,) = told.acknowledgements.results
                assert result.outcome == pb.OBSERVATION_OUTCOME_SUPERSEDED
                told = await asyncio.wait_for(older.stream.read(), 30)
            else:
                told = await older.say(**{word: {}})
            assert told.HasField("superseded")
            assert await older.stream.read() == grpc.aio.EOF


@pytest.mark.parametrize(
    "said",
    [
        Said(beat=pb.Beat()),
        Said(),
        Said(hello=pb.Hello(host_id="Not A Host")),
        Said(hello=pb.Hello(host_id="a/../b")),
    ],
)
async def test_a_stream_begins_with_the_hello_of_a_host(cloud: ApiCloud, said: Said) -> None:
    stream = cloud.ingress.StreamInstanceStates()
    await stream.write(said)
    refused = await refusal(stream)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_a_host_is_heard_again_after_the_conductor_was_away(cloud: ApiCloud) -> None:
    async with agent(cloud, "h-patient") as host:
        await host.hello()
        cloud.conductor.beats_to_refuse = 3
        assert (await host.say(beat=pb.Beat())).HasField("beat_answer")
        assert cloud.conductor.beats_to_refuse == 0


async def test_the_words_of_a_host_are_cut_and_stripped(cloud: ApiCloud) -> None:
    instance_id = await with_guest(cloud, cloud.user("words", "member"), "h-words")
    async with agent(cloud, "h-words") as host:
        await host.hello()
        failure = pb.Failure(reason="R" * 500, message="a\x1b[31m\n" + "m" * 9000)
        await host.observe(instance_id, 5, failure=failure, progress="p\x00" * 900)
    seen = cloud.conductor.observed[-1].observation
    assert seen.failure.message.startswith("a [31m m")
    assert (len(seen.failure.reason), len(seen.failure.message)) == (63, 1000)
    assert seen.progress == "p " * 100
