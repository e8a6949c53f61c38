"""Roads that the test can cut: between clients and api by TCP, and between services by putting
itself where a service has bound its socket. Owns no fault's time.

A road is whole, or:
- half-open: the far end is gone, the near end hears nothing of it until the road is whole again;
- mute: what is asked arrives, no answer comes back;
- stall: nothing gets through, and all of it does once the road is whole again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

PIECE_BYTES = 65536
LOOK_S = 0.02
CLOSE_S = 5.0


class Road:
    """One listener and the connections through it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mode = "whole"
        self.target: tuple[str, int] | Path | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._doomed: set[asyncio.StreamWriter] = set()
        self._near: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()
        self.passing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def break_(self, mode: str) -> int:
        """Cuts the road; how many connections felt it."""
        self.mode = mode
        self._whole.clear()
        if mode == "half-open":
            for writer in list(self._far):
                writer.transport.abort()
        return self.passing

    def mend(self) -> None:
        """Makes it whole; ends what cannot go on: half a connection, or one that lost bytes."""
        self.mode = "whole"
        self._whole.set()
        for writer in list(self._doomed):
            writer.transport.abort()
        self._doomed.clear()

    async def serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        """One connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._near.add(to_near)
        try:
            await self._carry(near, to_near)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._tasks.discard(task)
            self._doomed.discard(to_near)
            self._near.discard(to_near)
            to_near.transport.abort()

    async def close(self) -> None:
        """Ends every connection."""
        self._whole.set()
        for writer in (*self._near, *self._far):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    async def _carry(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        if self.mode != "whole":
            self._doomed.add(to_near)
            await self._whole.wait()
            return
        assert self.target is not None
        if isinstance(self.target, Path):
            far, to_far = await asyncio.open_unix_connection(str(self.target))
        else:
            far, to_far = await asyncio.open_connection(*self.target)
        self.passing += 1
        self._far.add(to_far)
        pumps = {
            asyncio.create_task(self._pump(near, to_far, to_near, back=False)),
            asyncio.create_task(self._pump(far, to_near, to_near, back=True)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self.mode == "half-open":
                self._doomed.add(to_near)
                await self._whole.wait()
        finally:
            self.passing -= 1
            self._far.discard(to_far)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_far.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_near: asyncio.StreamWriter,
        *,
        back: bool,
    ) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if self.mode == "mute" and back:
                self._doomed.add(to_near)
                continue
            if self.mode in {"half-open", "stall"}:
                await self._whole.wait()
            writer.write(piece)
            await writer.drain()


@contextlib.asynccontextmanager
async def tcp_road(name: str, target: str) -> AsyncIterator[tuple[Road, str]]:
    """A road to HOST:PORT, and where its near end is."""
    road = Road(name)
    host, _, port = target.rpartition(":")
    road.target = (host, int(port))
    server = await asyncio.start_server(road.serve, "127.0.0.1", 0)
    try:
        yield road, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await road.close()


@contextlib.asynccontextmanager
async def socket_road(name: str, path: Path) -> AsyncIterator[Road]:
    """A road in the place of a service's unix socket, taken anew whenever the service binds it."""
    road = Road(name)
    road.target = path.with_name(f"{path.name}.far")
    keeping = asyncio.create_task(_keep(road, path))
    try:
        yield road
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await road.close()


async def _keep(road: Road, path: Path) -> None:
    ours, held, server = 0, -1, None
    near = path.with_name(f"{path.name}.near")
    assert isinstance(road.target, Path)
    try:
        while True:
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                if stat.S_ISSOCK(found.st_mode) and found.st_ino != ours:
                    if server is not None:
                        server.close()
                    near.unlink(missing_ok=True)
                    server = await asyncio.start_unix_server(road.serve, str(near))
                    ours = near.lstat().st_ino
                    path.replace(road.target)
                    near.replace(path)
                    if held >= 0:
                        os.close(held)
                    # As long as it is held, no other socket gets its number.
                    held = os.open(path, os.O_PATH)
            await asyncio.sleep(LOOK_S)
    finally:
        # The service's own socket goes back to its place.
        with contextlib.suppress(OSError):
            if path.lstat().st_ino == ours:
                road.target.replace(path)
        if held >= 0:
            os.close(held)
        if server is not None:
            server.close()
