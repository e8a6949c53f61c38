"""A way to PostgreSQL that can be cut between a COMMIT and its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
# ReadyForQuery, idle: the statement before it is committed.
READY = b"Z\x00\x00\x00\x05I"


class Severed:
    """Passes everything on. Once armed, the first connection over which a statement with `mark` in
    it is sent loses the answer: it is read to its end, so that the commit is done, and dropped.
    """

    def __init__(self, upstream: Path) -> None:
        self.cut = 0
        self._upstream = upstream
        self._mark = b""
        self._condemned: set[asyncio.StreamWriter] = set()

    def arm(self, mark: bytes) -> None:
        """Cuts the next connection whose client sends `mark`."""
        self._mark = mark

    async def accept(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        server, questions = await asyncio.open_unix_connection(str(self._upstream))
        ways = [
            asyncio.create_task(self._ask(client, questions, answers)),
            asyncio.create_task(self._answer(server, answers)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for writer in (questions, answers):
                writer.transport.abort()

    async def _ask(
        self,
        client: asyncio.StreamReader,
        questions: asyncio.StreamWriter,
        answers: asyncio.StreamWriter,
    ) -> None:
        while chunk := await client.read(1 << 20):
            if self._mark and self._mark in chunk:
                self._mark = b""
                self._condemned.add(answers)
            questions.write(chunk)
            await questions.drain()

    async def _answer(self, server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while chunk := await server.read(1 << 20):
            if answers in self._condemned:
                if chunk.endswith(READY):
                    self.cut += 1
                    return
                continue
            answers.write(chunk)
            await answers.drain()


@contextlib.asynccontextmanager
async def severed(folder: Path, upstream: Path) -> AsyncIterator[Severed]:
    """A folder to connect to in place of the server's."""
    folder.mkdir()
    way = Severed(upstream / SOCKET)
    listening = await asyncio.start_unix_server(way.accept, str(folder / SOCKET))
    try:
        yield way
    finally:
        listening.close()
