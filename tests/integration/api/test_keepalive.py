"""Goal: a silent connection is kept and looked after; one that floods a replica with pings is not.

Spoken by hand, frame by frame: a gRPC library does not let its user break these rules.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.integration.api.cloud import ApiCloud

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
ENHANCE_YOUR_CALM = 11
PATIENCE_S = 120


@dataclass(frozen=True)
class Frame:
    """One frame of HTTP/2 on the connection itself (stream 0)."""

    kind: int
    flags: int = 0
    payload: bytes = b""

    def wire(self) -> bytes:
        head = len(self.payload).to_bytes(3, "big") + bytes((self.kind, self.flags))
        return head + bytes(4) + self.payload


class Connection:
    """An HTTP/2 connection without any call on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, kind: int, flags: int = 0, payload: bytes = b"") -> None:
        self._writer.write(Frame(kind, flags, payload).wire())

    def ping(self) -> None:
        self.send(PING, payload=bytes(8))

    async def frames(self) -> AsyncIterator[Frame]:
        """What the replica sends until it closes the connection; settings are acknowledged."""
        async with asyncio.timeout(PATIENCE_S):
            while head := await self._head():
                length = int.from_bytes(head[:3], "big")
                frame = Frame(head[3], head[4], await self._reader.readexactly(length))
                if frame.kind == SETTINGS and not frame.flags & ACK:
                    self.send(SETTINGS, ACK)
                yield frame

    async def _head(self) -> bytes:
        try:
            return await self._reader.readexactly(9)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def until(self, kind: int, flags: int = 0) -> Frame:
        """The next frame of that kind, with those flags."""
        async for frame in self.frames():
            assert frame.kind != GOAWAY or kind == GOAWAY, frame
            if (frame.kind, frame.flags) == (kind, flags):
                return frame
        raise AssertionError("the replica closed the connection")

    async def away(self) -> Frame:
        """The end of a flood of pings, each sent when the one before was answered: what a replica
        has not read when it closes makes the network drop its last words.
        """
        self.ping()
        async for frame in self.frames():
            if frame.kind == GOAWAY:
                return frame
            if (frame.kind, frame.flags) == (PING, ACK):
                self.ping()
        raise AssertionError("the replica closed the connection")


@asynccontextmanager
async def connection(cloud: ApiCloud) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port)
    writer.write(PREFACE + Frame(SETTINGS).wire())
    made = Connection(reader, writer)
    try:
        await made.until(SETTINGS)
        yield made
    finally:
        writer.close()


async def test_a_flood_of_pings_is_sent_away(cloud: ApiCloud) -> None:
    async with connection(cloud) as flooding:
        away = await flooding.away()
        assert int.from_bytes(away.payload[4:8], "big") == ENHANCE_YOUR_CALM
        assert away.payload[8:] == b"too_many_pings"
        assert [frame async for frame in flooding.frames() if frame.kind == GOAWAY] == []


@pytest.mark.slow
async def test_a_ping_every_ten_seconds_is_welcome_without_a_call(cloud: ApiCloud) -> None:
    async with connection(cloud) as watching:
        for _ in range(5):
            watching.ping()
            await watching.until(PING, ACK)
            await asyncio.sleep(10.5)


@pytest.mark.slow
async def test_a_silent_connection_is_pinged_and_left_when_nobody_is_there(
    cloud: ApiCloud,
) -> None:
    async with connection(cloud) as silent:
        await silent.until(PING)
        # Unanswered it counts as dead: the replica closes, and says nothing to nobody.
        assert {frame.kind async for frame in silent.frames()} <= {PING, GOAWAY}
