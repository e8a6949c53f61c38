"""A slow way to PostgreSQL, on which what was sent arrives even when its sender has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.integration.conductor.severed import SOCKET


class Slowed:
    """Passes everything on after `delay_s` each way. What has `mark` in it is `held` until
    `release`; `answered` says that the server has then dealt with it.
    """

    def __init__(self, upstream: Path) -> None:
        self.delay_s = 0.0
        self.mark = b""
        self.held = asyncio.Event()
        self.release = asyncio.Event()
        self.answered = asyncio.Event()
        self._upstream = upstream
        self._work: set[asyncio.Task[None]] = set()

    async def accept(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        server, questions = await asyncio.open_unix_connection(str(self._upstream))
        holds = asyncio.Event()
        ways = (self._ask(client, questions, holds), self._answer(server, answers, holds))
        for way in ways:
            task = asyncio.create_task(way)
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _ask(
        self, client: asyncio.StreamReader, questions: asyncio.StreamWriter, holds: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await client.read(1 << 20):
                if self.mark and self.mark in chunk:
                    self.mark = b""
                    self.held.set()
                    holds.set()
                    await self.release.wait()
                await asyncio.sleep(self.delay_s)
                questions.write(chunk)
                await questions.drain()
            # Closed whole, it would not hear the answer any more.
            questions.write_eof()

    async def _answer(
        self, server: asyncio.StreamReader, answers: asyncio.StreamWriter, holds: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await server.read(1 << 20):
                await asyncio.sleep(self.delay_s)
                answers.write(chunk)
                await answers.drain()
        answers.close()
        if holds.is_set():
            # The server takes what was sent before it sees the end of the connection.
            self.answered.set()

    def end(self) -> None:
        """Ends every connection."""
        for task in self._work:
            task.cancel()


@contextlib.asynccontextmanager
async def slowed(folder: Path, upstream: Path) -> AsyncIterator[Slowed]:
    """A folder to connect to in place of the server's."""
    folder.mkdir()
    way = Slowed(upstream / SOCKET)
    listening = await asyncio.start_unix_server(way.accept, str(folder / SOCKET))
    try:
        yield way
    finally:
        listening.close()
        way.end()
