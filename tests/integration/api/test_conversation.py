"""The one stream to the conductor: rounds under way together, and what a broken stream means."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stead.internal.v1 import conductor_pb2, conductor_pb2_grpc

from services.api.edges.conversation import Conversation
from services.domain.errors import Unavailable
from services.runtime import rpc
from tests.fakes.conductor import FakeConductor

LONG_S = 60.0
BEAT = conductor_pb2.BeatRequest(beats=[conductor_pb2.HostBeat(host_id="h", incarnation=1)])
LARGE = conductor_pb2.ReadRequest(queries=[conductor_pb2.Query(id="x" * 100_000)])


@asynccontextmanager
async def conversation(folder: Path) -> AsyncIterator[tuple[Conversation, FakeConductor, str]]:
    conductor, target = FakeConductor(), f"unix:{folder}/conductor.sock"
    await conductor.start(target)
    channel = rpc.channel(target)
    stub: Any = conductor_pb2_grpc.ConductorServiceStub(channel)
    talking = Conversation(stub)
    running = asyncio.create_task(talking.run())
    try:
        yield talking, conductor, target
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await channel.close()
        await conductor.stop()


def beat() -> conductor_pb2.ConverseRequest:
    return conductor_pb2.ConverseRequest(beat=BEAT)


def large() -> conductor_pb2.ConverseRequest:
    return conductor_pb2.ConverseRequest(read=LARGE)


async def answered(talking: Conversation) -> conductor_pb2.ConverseResponse:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await talking.ask(beat(), LONG_S)
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_many_rounds_are_under_way_on_one_stream(tmp_path: Path) -> None:
    async with conversation(tmp_path) as (talking, conductor, _):
        conductor.held = asyncio.Event()
        rounds = [beat() if n % 2 else large() for n in range(200)]
        asking = [asyncio.create_task(talking.ask(round_, LONG_S)) for round_ in rounds]
        while conductor.rounds_held < len(rounds):  # noqa: ASYNC110  # the fake tells nobody
            await asyncio.sleep(0.01)
        conductor.held.set()
        answers = await asyncio.gather(*asking)
        assert [answer.WhichOneof("round") for answer in answers] == ["read", "beat"] * 100
        assert [answer.number for answer in answers] == list(range(1, 201))
        assert conductor.conversations == 1


async def test_a_refused_round_is_refused_alone(tmp_path: Path) -> None:
    async with conversation(tmp_path) as (talking, conductor, _):
        conductor.beats_to_refuse = 1
        with pytest.raises(Unavailable) as refused:
            await talking.ask(beat(), LONG_S)
        assert refused.value.reason == "DATABASE_UNAVAILABLE"
        assert (await talking.ask(beat(), LONG_S)).beat.results
        assert conductor.conversations == 1


async def test_rounds_in_flight_on_a_broken_stream_fail_and_the_next_opens_another(
    tmp_path: Path,
) -> None:
    async with conversation(tmp_path) as (talking, conductor, target):
        conductor.held = asyncio.Event()
        asking = [asyncio.create_task(talking.ask(beat(), LONG_S)) for _ in range(5)]
        while conductor.rounds_held < 5:  # noqa: ASYNC110  # the fake tells nobody
            await asyncio.sleep(0.01)
        await conductor.stop()
        for failed in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(failed, Unavailable)
            assert failed.reason == "PEER_UNREACHABLE"
        with pytest.raises(Unavailable):
            await talking.ask(beat(), LONG_S)
        conductor.held = None
        await conductor.start(target)
        assert (await answered(talking)).beat.results


async def test_a_silent_peer_costs_one_round_its_time_and_gets_a_new_stream(
    tmp_path: Path,
) -> None:
    async with conversation(tmp_path) as (talking, conductor, _):
        conductor.held = asyncio.Event()
        with pytest.raises(Unavailable) as late:
            await talking.ask(beat(), 0.05)
        assert late.value.reason == "PEER_UNREACHABLE"
        conductor.held = None
        assert (await talking.ask(beat(), LONG_S)).beat.results
        assert conductor.conversations == 2


async def test_a_slow_round_does_not_end_a_stream_on_which_others_are_answered(
    tmp_path: Path,
) -> None:
    async with conversation(tmp_path) as (talking, conductor, _):
        assert (await talking.ask(beat(), LONG_S)).beat.results
        conductor.held = held = asyncio.Event()
        slow = asyncio.create_task(talking.ask(large(), 1.0))
        while conductor.rounds_held < 1:  # noqa: ASYNC110  # the fake tells nobody
            await asyncio.sleep(0.01)
        conductor.held = None
        assert (await talking.ask(beat(), LONG_S)).beat.results
        with pytest.raises(Unavailable):
            await slow
        held.set()
        assert (await talking.ask(beat(), LONG_S)).beat.results
        assert conductor.conversations == 1
