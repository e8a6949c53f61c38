"""The road of questions: a console is read from the host of its guest, by a ticket good once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from stead.internal.v1 import compute_pb2 as pb
from stead.v1 import instance_pb2

from services.runtime import bus, subjects
from tests.integration.api.cloud import CLOUD_ID, ApiCloud, new_id, refusal
from tests.integration.api.test_api_service import created
from tests.integration.api.test_ingress import with_guest


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
    await connected._client.flush()  # the bus knows of it from now on
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
    async with questions(cloud, "h-gone") as heard:
        refused = await refusal(user.GetConsoleOutput(request))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE")
        assert refused.retry_s
        assert asyncio.get_running_loop().time() - begun_s < 8
        late = await asyncio.wait_for(heard.get(), 60)
        assert await refused_ticket(cloud, late.ticket) == "TICKET_UNKNOWN"


async def test_a_ticket_is_good_once_and_only_whole(cloud: ApiCloud) -> None:
    user = cloud.user("tickets", "member")
    instance_id = await with_guest(cloud, user, "h-tickets")
    request = instance_pb2.GetConsoleOutputRequest(id=instance_id)
    async with questions(cloud, "h-tickets") as heard:
        asking = asyncio.ensure_future(collected(user.GetConsoleOutput(request)))
        ticket = (await asyncio.wait_for(heard.get(), 60)).ticket
        for wrong in ("", ticket[:-1], ticket + "x", instance_id):
            assert await refused_ticket(cloud, wrong) == "TICKET_UNKNOWN"
        joined = cloud.ingress.Attach()
        await joined.write(pb.AttachRequest(ticket=ticket))
        await joined.write(pb.AttachRequest(chunk=b"hello"))
        await joined.write(pb.AttachRequest(console_log_end=pb.ConsoleLogEnd()))
        assert (await asking).output == "hello"
        assert await refused_ticket(cloud, ticket) == "TICKET_UNKNOWN"


async def collected(call: Any) -> Any:
    return await call


@asynccontextmanager
async def questions(cloud: ApiCloud, host_id: str) -> AsyncIterator["asyncio.Queue[pb.Question]"]:
    """What a host is asked, unanswered."""
    heard: asyncio.Queue[pb.Question] = asyncio.Queue()
    connected = await bus.connect(cloud.nats.url, name="host", credential=("stead", "secret"))

    async def receive(payload: bytes) -> None:
        heard.put_nowait(pb.Question.FromString(payload))

    await connected.subscribe(subjects.host_question(CLOUD_ID, host_id), receive)
    await connected._client.flush()  # the bus knows of it from now on
    try:
        yield heard
    finally:
        await connected.close()


async def refused_ticket(cloud: ApiCloud, ticket: str) -> str:
    """Why a ticket is refused."""
    call = cloud.ingress.Attach(timeout=60)
    await call.write(pb.AttachRequest(ticket=ticket))
    return (await refusal(call)).reason
