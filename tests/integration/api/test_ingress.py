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

from services.runtime import bus, subjects
from tests.integration.api.cloud import CLOUD_ID, ApiCloud, User, new_id, refusal
from tests.integration.api.test_api_service import created

Said = pb.StreamInstanceStatesRequest


class Agent:
    """The stream of one host."""

    def __init__(self, stream: Any, host_id: str) -> None:
        self.stream = stream
        self.host_id = host_id
        self.sequence = 0

    async def say(self, **said: Any) -> Any:
        await self.stream.write(Said(**said))
        return await asyncio.wait_for(self.stream.read(), 30)

    async def hello(self) -> pb.View:
        capacity = host_pb2.Resources(vcpus=4, memory_mib=4096, disk_gib=40)
        told = await self.say(hello=pb.Hello(host_id=self.host_id, capacity=capacity))
        view: pb.View = told.view
        return view

    async def observe(self, instance_id: str, epoch: int, **seen: Any) -> Any:
        self.sequence += 1
        observation = pb.Observation(
            sequence=self.sequence, instance_id=instance_id, epoch=epoch, **seen
        )
        return await self.say(observations=pb.Observations(observations=[observation]))


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
        await cloud.conductor.stop()
        beat = asyncio.ensure_future(host.say(beat=pb.Beat()))
        await asyncio.sleep(0.8)
        await cloud.conductor.start(cloud.conductor_target)
        assert (await beat).HasField("beat_answer")


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


@asynccontextmanager
async def answering(cloud: ApiCloud, host_id: str, *answer: pb.AttachRequest) -> AsyncIterator[Any]:
    """A host that answers each question with these parts; gives the questions that it heard."""
    heard: list[pb.Question] = []
    connected = await bus.connect(cloud.nats.url, name="host", credential=("stead", "secret"))

    async def receive(payload: bytes) -> None:
        question = pb.Question.FromString(payload)
        heard.append(question)
        async with grpc.aio.insecure_channel(question.ingress_endpoint) as channel:
            attach = channel.stream_stream(
                "/stead.internal.v1.ComputeIngressService/Attach",
                request_serializer=pb.AttachRequest.SerializeToString,
                response_deserializer=pb.AttachResponse.FromString,
            )()
            try:
                await attach.write(pb.AttachRequest(ticket=question.ticket))
                for part in answer:
                    await attach.write(part)
                await attach.done_writing()
                await attach.read()
            except grpc.aio.AioRpcError:
                return

    await connected.subscribe(subjects.host_question(CLOUD_ID, host_id), receive)
    try:
        yield heard
    finally:
        await connected.close()


async def test_a_console_is_read_from_the_host_of_the_guest(cloud: ApiCloud) -> None:
    user = cloud.user("console", "reader", "member")
    instance_id = await with_guest(cloud, user, "h-console", epoch=9)
    end = pb.AttachRequest(console_log_end=pb.ConsoleLogEnd(start_offset=100))
    parts = (pb.AttachRequest(chunk=b"hello \xff"), pb.AttachRequest(chunk=b"world\n"), end)
    async with answering(cloud, "h-console", *parts) as heard:
        request = instance_pb2.GetConsoleOutputRequest(id=instance_id, max_bytes=1000)
        answer = await user.GetConsoleOutput(request)
    assert answer.output == "hello \ufffdworld\n"
    assert (answer.start_offset, answer.end_offset) == (100, 113)
    (question,) = heard
    assert (question.instance_id, question.epoch) == (instance_id, 9)
    assert question.console_log.max_bytes == 1000
    again = cloud.ingress.Attach()
    await again.write(pb.AttachRequest(ticket=question.ticket))
    refused = await refusal(again)
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TICKET_UNKNOWN")


async def test_a_console_without_a_guest_is_not_ready(cloud: ApiCloud) -> None:
    user = cloud.user("unready", "member")
    answer = await created(cloud, user)
    request = instance_pb2.GetConsoleOutputRequest(id=answer.instance.id)
    refused = await refusal(user.GetConsoleOutput(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CONSOLE_NOT_READY",
    )
    instance_id = await with_guest(cloud, user, "h-unready")
    failure = pb.AttachRequest(failure=pb.Failure(reason="CONSOLE_NOT_READY", message="no guest"))
    async with answering(cloud, "h-unready", failure):
        request = instance_pb2.GetConsoleOutputRequest(id=instance_id)
        refused = await refusal(user.GetConsoleOutput(request))
    assert refused.reason == "CONSOLE_NOT_READY"


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (pb.AttachRequest(chunk=b"cut"),),
        (pb.AttachRequest(chunk=b"x" * 5000),),
        (pb.AttachRequest(ticket="again"),),
    ],
)
async def test_a_host_that_does_not_answer_properly_is_unreachable(
    cloud: ApiCloud, parts: tuple[pb.AttachRequest, ...]
) -> None:
    user, host_id = cloud.user("odd", "member"), f"h-{new_id()}"
    instance_id = await with_guest(cloud, user, host_id)
    async with answering(cloud, host_id, *parts):
        request = instance_pb2.GetConsoleOutputRequest(id=instance_id, max_bytes=1000)
        refused = await refusal(user.GetConsoleOutput(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE")


async def test_a_host_that_is_gone_is_unreachable_within_five_seconds(cloud: ApiCloud) -> None:
    user = cloud.user("gone", "member")
    instance_id = await with_guest(cloud, user, "h-gone")
    begun_s = asyncio.get_running_loop().time()
    request = instance_pb2.GetConsoleOutputRequest(id=instance_id)
    refused = await refusal(user.GetConsoleOutput(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE")
    assert refused.retry_s
    assert asyncio.get_running_loop().time() - begun_s < 8
