"""The admin port of a process: one listener for gRPC and for HTTP/1, told apart by the first bytes.

Owns the port. gRPC callers get health, channelz and reflection; HTTP callers GET /metrics, /healthz
(alive) and /readyz (ready). Nothing on it changes anything, and it asks for no token: it belongs on
a unix socket, on loopback, or where only operators reach it.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2

from services.runtime import metrics
from services.runtime.log import logger
from services.runtime.metrics import Meters
from services.runtime.reflection import add_reflection

# How every HTTP/2 connection begins, as far as it must be read to be sure. Source: RFC 9113, 3.4.
PREFACE = b"PRI * HTTP/2.0"
HEAD_S_MAX = 10.0
CHUNK_BYTES = 64 * 1024
CONNECTIONS_MAX = 256

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SERVICES = tuple(
    service.full_name
    for file in (health_pb2, channelz_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)


class Readiness(Protocol):
    """Whether the process does its work now."""

    @property
    def is_ready(self) -> bool:
        """As it is now."""
        ...

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offers grpc.health.v1 on `server`."""
        ...


class AdminPort:
    """Answers on the port that it is given until it is closed."""

    def __init__(self, health: Readiness, meters: Meters) -> None:
        self._health = health
        self._meters = meters
        self._inner = ""
        self._open: set[asyncio.Task[None]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) <= CONNECTIONS_MAX:
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever it was has gone, or does not speak to be understood.
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_S_MAX):
            first = await _first_bytes(reader)
        if first == PREFACE:
            await _splice((reader, writer), await _connected(self._inner), first)
            return
        if not first[:1].isupper():
            # No method of HTTP: TLS perhaps, or a stranger.
            return
        async with asyncio.timeout(HEAD_S_MAX):
            head = first + await reader.readuntil(b"\r\n\r\n")
        status, kind, body = await self._respond(head)
        writer.write(_http(status, kind, body, with_body=not head.startswith(b"HEAD ")))
        async with asyncio.timeout(HEAD_S_MAX):
            await writer.drain()

    async def _respond(self, head: bytes) -> tuple[HTTPStatus, str, bytes]:
        method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
        path = rest.split(b" ")[0].split(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"only GET and HEAD\n"
        if path == b"/metrics":
            return HTTPStatus.OK, metrics.CONTENT_TYPE, await self._meters.page()
        if path == b"/healthz":
            return HTTPStatus.OK, "text/plain", b"alive\n"
        if path == b"/readyz":
            if self._health.is_ready:
                return HTTPStatus.OK, "text/plain", b"ready\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"not ready\n"
        return HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics, /healthz and /readyz\n"

    @contextlib.asynccontextmanager
    async def serving_grpc(self, listen: str) -> AsyncIterator[None]:
        """gRPC behind the port, on a socket that only this process speaks to."""
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._health.add_to(server)
        channelz.add_channelz_servicer(server)
        add_reflection(server, SERVICES)
        self._inner, target = _inner_socket(listen)
        server.add_insecure_port(target)
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)
            for task in list(self._open):
                task.cancel()


@contextlib.asynccontextmanager
async def admin_port(listen: str, health: Readiness, meters: Meters) -> AsyncIterator[int]:
    """Answers on `listen` (HOST:PORT, [ADDRESS]:PORT or unix:PATH) from now on; gives the port, or
    0 for a unix socket.
    """
    port = AdminPort(health, meters)
    async with port.serving_grpc(listen):
        server = await _listen(listen, port.answer)
        number = 0 if listen.startswith("unix:") else server.sockets[0].getsockname()[1]
        logger().info("admin port open", listen=listen, port=number)
        try:
            yield number
        finally:
            server.close()


async def _listen(
    listen: str, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> asyncio.Server:
    if listen.startswith("unix:"):
        path = listen.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        return await asyncio.start_unix_server(answer, path, limit=CHUNK_BYTES)
    host, _, number = listen.rpartition(":")
    return await asyncio.start_server(answer, host.strip("[]"), int(number), limit=CHUNK_BYTES)


def _inner_socket(listen: str) -> tuple[str, str]:
    """Path and gRPC target: beside a unix socket, with a name that is no longer; else abstract."""
    if listen.startswith("unix:"):
        path = str(Path(listen.removeprefix("unix:")).with_suffix(".grpc"))
        return path, f"unix:{path}"
    name = f"stead-admin-{os.urandom(16).hex()}"
    return f"\0{name}", f"unix-abstract:{name}"


async def _first_bytes(reader: asyncio.StreamReader) -> bytes:
    """As many bytes as it takes to tell: all of the preface, or fewer and something else."""
    seen = b""
    while len(seen) < len(PREFACE) and PREFACE.startswith(seen):
        chunk = await reader.read(1 if len(seen) < 3 else len(PREFACE) - len(seen))
        if not chunk:
            raise asyncio.IncompleteReadError(seen, len(PREFACE))
        seen += chunk
    return seen


async def _connected(path: str) -> Streams:
    # By hand: uvloop's own way cannot name an abstract socket.
    inner = socket.socket(socket.AF_UNIX)
    try:
        inner.setblocking(False)
        async with asyncio.timeout(HEAD_S_MAX):
            await asyncio.get_running_loop().sock_connect(inner, path)
            return await asyncio.open_unix_connection(sock=inner, limit=CHUNK_BYTES)
    except BaseException:
        inner.close()
        raise


async def _splice(outer: Streams, inner: Streams, first: bytes) -> None:
    """Carries bytes both ways until both sides have ended."""
    inner[1].write(first)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(outer[0], inner[1]))
            group.create_task(_pump(inner[0], outer[1]))
    except* OSError:
        pass
    finally:
        inner[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _http(status: HTTPStatus, kind: str, body: bytes, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
