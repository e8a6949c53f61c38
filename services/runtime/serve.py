"""How a service lives: its loop, its signals, its health, its end.

Owns start and stop. SIGTERM and SIGINT set the stop event; the service has `GRACE_S` to leave its
stack, then the process ends anyway. Liveness is that the admin port answers, readiness what
`Health` says.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from services.runtime.log import configure, logger

GRACE_S = 8.0


class Health:
    """Readiness per gRPC service name, shown on any server that it is added to; `""` stands for the
    whole.
    """

    def __init__(self, *names: str) -> None:
        self._names = ("", *names)
        self._servicer = health_aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offers grpc.health.v1 on `server`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_ready(self, ready: bool) -> None:
        """SERVING or NOT_SERVING for all names."""
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, status.SERVING if ready else status.NOT_SERVING)


@contextlib.asynccontextmanager
async def admin_server(listen: str, health: Health) -> Any:
    """Serves health on the admin port from the first moment: alive, and ready when `health` says
    so.
    """
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    health.add_to(server)
    await health.set_ready(False)
    port = server.add_insecure_port(listen)
    await server.start()
    logger().info("admin port open", listen=listen, port=port)
    try:
        yield server
    finally:
        await health.set_ready(False)
        await server.stop(0)


def run(service: str, main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs `main(stop)` to its end under uvloop; the process's exit code is 1 if it raised."""
    configure(service)
    uvloop.run(_until_stopped(main))


async def _until_stopped(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    logger().info("started", pid=os.getpid())
    try:
        await main(stop)
    except Exception:
        logger().exception("ended by an error")
        raise
    logger().info("ended")


def _on_signal(stop: asyncio.Event) -> None:
    stop.set()
    asyncio.get_running_loop().call_later(GRACE_S, os._exit, 3)


async def run_until(stop: asyncio.Event, *forever: Coroutine[Any, Any, None]) -> None:
    """Runs the coroutines until `stop` is set; what one of them raises is raised here."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in forever]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def every(period_s: float, do: Callable[[], Awaitable[None]]) -> None:
    """Calls `do` again and again, `period_s` after each end; an error is logged and does not end
    it.
    """
    while True:
        try:
            await do()
        except Exception:  # noqa: BLE001  # the next round may do better
            logger().exception("periodic work failed", work=getattr(do, "__qualname__", repr(do)))
        await asyncio.sleep(period_s)
