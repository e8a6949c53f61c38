"""The admin port: gRPC and HTTP on one listener, and the figures of the process."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from services.runtime import admin, metrics, serve
from services.runtime.lane import Lane

KINDS = ("127.0.0.1:0", "[::1]:0", "unix:")


class Opened:
    """An admin port that is open: how it is reached."""

    def __init__(
        self, listen: str, number: int, health: serve.Health, meters: metrics.Meters
    ) -> None:
        self.health = health
        self.meters = meters
        self.path = listen.removeprefix("unix:") if listen.startswith("unix:") else ""
        self.host = listen.rpartition(":")[0].strip("[]")
        self.number = number
        self.target = listen if self.path else f"{listen.rpartition(':')[0]}:{number}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Bytes to and from the port."""
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.number)

    async def say(self, *pieces: bytes) -> bytes:
        """All that comes back after saying so, piece by piece."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return answer

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of a request."""
        answer = await self.say(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    async def figures(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """What /metrics says, by name and sorted labels."""
        status, body = await self.get("/metrics")
        assert status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }


@contextlib.asynccontextmanager
async def opened(
    listen: str = "127.0.0.1:0", read_s: float = metrics.READ_S
) -> AsyncIterator[Opened]:
    """An open admin port of the kind."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"unix:{folder}/x-admin.sock" if listen == "unix:" else listen
        health, meters = serve.Health("stead.test"), metrics.Meters("test", read_s=read_s)
        async with serve.admin_server(place, health, meters) as number:
            yield Opened(place, number, health, meters)


async def is_serving(target: str) -> bool:
    """What health says over gRPC."""
    async with grpc.aio.insecure_channel(target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(service="stead.test"), timeout=60)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.parametrize("listen", KINDS)
async def test_one_port_answers_grpc_and_http(listen: str) -> None:
    async with opened(listen) as port:
        assert not await is_serving(port.target)
        assert (await port.get("/healthz"))[0] == 200
        assert (await port.get("/readyz"))[0] == 503
        await port.health.set_ready(True)
        assert await is_serving(port.target)
        assert await port.get("/readyz") == (200, "ready\n")
        assert 'stead_info{service="test"' in (await port.get("/metrics"))[1]


async def test_a_port_that_is_closed_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x-admin.sock"
        async with serve.admin_server(f"unix:{path}", serve.Health()):
            assert path.exists()
            inner = path.with_suffix(".grpc")
            assert inner.exists()
            assert len(inner.name) <= len(path.name), (
                "the home's longest socket is still the longest"
            )
        assert not inner.exists()
        with pytest.raises(OSError, match=r"refused|No such file"):
            await asyncio.open_unix_connection(str(path))
        async with serve.admin_server(f"unix:{path}", serve.Health()):
            assert path.exists(), "what a killed process left is no hindrance"


async def test_health_is_watched_through_the_port() -> None:
    async with opened() as port, grpc.aio.insecure_channel(port.target) as channel:
        request = health_pb2.HealthCheckRequest(service="stead.test")
        stream = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=60)
        assert (await stream.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await port.health.set_ready(True)
        assert (await stream.read()).status == health_pb2.HealthCheckResponse.SERVING
        stream.cancel()


async def test_channelz_shows_the_servers_and_channels_of_the_process() -> None:
    async with opened() as port, grpc.aio.insecure_channel(port.target) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        servers = await stub.GetServers(channelz_pb2.GetServersRequest(), timeout=60)
        assert servers.server
        channels = await stub.GetTopChannels(channelz_pb2.GetTopChannelsRequest(), timeout=60)
        assert port.target in {c.data.target.removeprefix("ipv4:") for c in channels.channel} | {
            c.data.target.removeprefix("dns:///") for c in channels.channel
        }


async def test_reflection_names_what_the_port_offers() -> None:
    async with opened() as port, grpc.aio.insecure_channel(port.target) as channel:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        for path in ("v1alpha", "v1"):
            method = channel.stream_stream(
                f"/grpc.reflection.{path}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            answers = [answer async for answer in method(iter([ask]), timeout=60)]
            names = {s.name for s in answers[0].list_services_response.service}
            assert {"grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= names
    assert reflection_pb2_grpc.ServerReflectionStub


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ((b"POST /metrics HTTP/1.1\r\n\r\n",), b"405"),
        ((b"PRIVET /metrics HTTP/1.1\r\n\r\n",), b"405"),
        ((b"GET / HTTP/1.1\r\n\r\n",), b"404"),
        ((b"G", b"ET /healthz", b" HTTP/1.0\r\n", b"\r\n"), b"200"),
        ((b"GET /healthz?full=1 HTTP/1.1\r\nX: y\r\n\r\n",), b"200"),
    ],
)
async def test_what_is_not_asked_for_is_refused(said: Sequence[bytes], status: bytes) -> None:
    async with opened() as port:
        assert (await port.say(*said)).split()[1] == status


async def test_head_has_no_body() -> None:
    async with opened() as port:
        status, body = await port.get("/healthz", "HEAD")
        assert (status, body) == (200, "")


async def test_bytes_of_no_protocol_end_the_connection_and_nothing_else() -> None:
    async with opened() as port:
        assert await port.say(b"\x16\x03\x01" + b"\x00" * (admin.CHUNK_BYTES + 1)) == b""
        _, writer = await port.connect()
        writer.write(b"PRI * HTTP/2.0\r\n\r\nno frames at all")
        writer.close()
        assert (await port.get("/healthz"))[0] == 200


async def test_figures_are_read_when_somebody_asks() -> None:
    now = {"x": 1.0}

    async def by_state() -> dict[tuple[str, ...], float]:
        return {("RUNNING",): now["x"]}

    async with opened() as port:
        port.meters.gauge("test_level", "A level.", lambda: now["x"])
        port.meters.gauge("test_by_state", "By state.", by_state, ("state",))
        assert (await port.figures())["stead_test_level", ()] == 1
        now["x"] = 7
        figures = await port.figures()
        assert figures["stead_test_level", ()] == 7
        assert figures["stead_test_by_state", (("state", "RUNNING"),)] == 7
        assert figures["process_cpu_seconds_total", ()] > 0


async def test_a_figure_that_cannot_be_read_hides_no_other() -> None:
    async def never() -> float:
        await asyncio.sleep(3600)
        return 1.0

    async with opened(read_s=0.1) as port:
        port.meters.gauge("test_broken", "Fails.", lambda: 1 / 0)
        port.meters.gauge("test_late", "Takes for ever.", never)
        port.meters.gauge("test_good", "Is there.", lambda: 3.0)
        figures = await port.figures()
    assert figures["stead_test_good", ()] == 3
    assert not {"stead_test_broken", "stead_test_late"} & {name for name, _ in figures}


async def test_lanes_show_their_batches_and_waits() -> None:
    async def double(items: Sequence[int]) -> list[int | Exception]:
        return [item * 2 for item in items]

    lane: Lane[int, int] = Lane(double, name="test of figures")
    waiting = [lane.put(number) for number in range(5)]
    task = asyncio.create_task(lane.run())
    await asyncio.gather(*waiting)
    labels = (("lane", "test of figures"),)
    async with opened() as port:
        figures = await port.figures()
    assert figures["stead_lane_batch_items_count", labels] == 1
    assert figures["stead_lane_batch_items_sum", labels] == 5
    assert figures["stead_lane_batch_items_bucket", (*labels, ("le", "4.0"))] == 0
    assert figures["stead_lane_batch_items_bucket", (*labels, ("le", "8.0"))] == 1
    assert figures["stead_lane_wait_seconds_count", labels] == 5
    assert figures["stead_lane_waiting", labels] == 0
    task.cancel()
