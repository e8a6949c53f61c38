"""The parts of chaos themselves: a plan is its seed's, a cut road is really cut, and a run that
did too little does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.awaited import until
from tests.chaos.links import Road, socket_road, tcp_road
from tests.chaos.nemesis import Done
from tests.chaos.plan import KINDS, TARGETS, Fault, faults
from tests.chaos.report import Run, figures, shortfalls
from tests.checkers.history import Call, Ending, History

PATIENCE_S = 60.0


def test_a_seed_is_a_plan_and_another_seed_another() -> None:
    assert faults(7, 2) == faults(7, 2) != faults(8, 2)


@pytest.mark.parametrize("seed", range(20))
def test_two_minutes_hit_every_target_and_often_enough(seed: int) -> None:
    planned = faults(seed, 2)
    assert {fault.target for fault in planned} == set(TARGETS)
    assert len(planned) >= 2 * 60 / 5
    assert planned[-1].at_s < 2 * 60


def test_a_long_run_has_every_kind_of_fault() -> None:
    assert {(f.target, f.kind, f.part) for f in faults(1, 10)} == set(KINDS)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says back what it hears, until nobody speaks."""
    while piece := await reader.read(1000):
        writer.write(piece)
    writer.close()


@asynccontextmanager
async def echo_road() -> AsyncIterator[tuple[Road, str, int]]:
    """A road to an echo, and its near end."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with tcp_road("r", f"127.0.0.1:{port}") as (road, endpoint):
        host, _, near = endpoint.rpartition(":")
        yield road, host, int(near)
    server.close()


async def said(reader: asyncio.StreamReader, within_s: float = PATIENCE_S) -> bytes:
    return await asyncio.wait_for(reader.read(1000), within_s)


async def test_a_stalled_road_keeps_all_bytes() -> None:
    async with echo_road() as (road, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"one")
        assert await said(reader) == b"one"
        assert road.break_("stall") == 1
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await said(reader, 0.3)
        road.mend()
        assert await said(reader) == b"two"
        writer.close()


async def test_a_half_open_road_tells_nothing_and_ends_when_it_is_mended() -> None:
    async with echo_road() as (road, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"one")
        assert await said(reader) == b"one"
        road.break_("half-open")
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await said(reader, 0.3)
        road.mend()
        assert await ended(reader)


async def test_a_mute_road_delivers_and_brings_no_answer() -> None:
    async with echo_road() as (road, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"one")
        assert await said(reader) == b"one"
        road.break_("mute")
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await said(reader, 0.3)
        road.mend()
        # Bytes were lost: the connection cannot go on.
        assert await ended(reader)
        fresh, again = await asyncio.open_connection(host, port)
        again.write(b"three")
        assert await said(fresh) == b"three"
        again.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the connection is over, without another byte."""
    try:
        return await said(reader) == b""
    except ConnectionResetError:
        return True


async def test_a_socket_is_taken_over_again_after_its_service_was_restarted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    async with socket_road("s", path) as road:
        for _ in range(2):
            path.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(echo, str(path))
            service = path.stat().st_ino
            await until(partial(another, path, service), PATIENCE_S)
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"through")
            assert await said(reader) == b"through"
            assert road.passing == 1
            writer.close()
            await until(lambda: not road.passing, PATIENCE_S)
            server.close()


def another(path: Path, service: int) -> bool:
    """Whether the socket is not the service's own."""
    return path.exists() and path.stat().st_ino != service


def run_of(calls: int, done: int) -> Run:
    """A run of a minute."""
    call = Call("c", "CreateInstance", "p", "r", "f", 0.0, 30.0, Ending.OK)
    faulty = [
        Done(Fault(0.0, TARGETS[n % len(TARGETS)], "kill", "", 0.0), "x", 1.0, 1.0)
        for n in range(done)
    ]
    history = History(calls=[replace(call, operation_id=str(n)) for n in range(calls)])
    return Run(
        calm_s=0.0, faults_s=0.0, ended_s=60.0, healed_s=60.0, began=(1, 1.0), done=faulty,
        history=history, real_guests=1,
    )  # fmt: skip


def test_a_run_counts_that_did_enough() -> None:
    enough = run_of(300, 12)
    assert shortfalls(enough) == []
    assert figures(enough)["faults"] == 12


@pytest.mark.parametrize(("calls", "done"), [(299, 12), (300, 11), (300, 5)])
def test_a_run_does_not_count_that_did_too_little(calls: int, done: int) -> None:
    assert shortfalls(run_of(calls, done))


def test_an_operation_that_takes_longer_than_half_a_minute_after_the_healing_fails_a_run() -> None:
    late = run_of(300, 12)
    late.times = {"1": (50.0, 90.5)}
    assert shortfalls(late) == ["1 operations took up to 30.5 s after the healing"]


def test_a_run_without_a_real_guest_does_not_count() -> None:
    alone = run_of(300, 12)
    alone.real_guests = 0
    assert shortfalls(alone) == ["no real guest"]
