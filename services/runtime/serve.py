"""How a service lives: its loop, its signals, its health, its end.

Owns start and stop. SIGTERM and SIGINT set the stop event; the service has its grace to leave its
stack, then the process ends anyway, as it does at once at a second signal. Liveness is that the
admin port answers, readiness what `Health` says.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from services.domain.errors import CloudError
from services.runtime.admin import admin_port
from services.runtime.log import configure, logger
from services.runtime.metrics import Meters

GRACE_S = 8.0
CUT_SHORT = 3


class _Answering(health_aio.HealthServicer):  # type: ignore[misc]  # the package has no types
    """The package's servicer, but for Watch: it writes its answers, which no interceptor can wrap;
    this one yields them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._standing: dict[str, Any] = {}
        self._changed = asyncio.Event()

    async def set(self, service: str, status: Any) -> None:
        await super().set(service, status)
        self._standing[service] = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  # named as in the contract
        """The present status of a service, and each other one that it takes."""
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        told = None
        while True:
            changed = self._changed
            now = self._standing.get(request.service, unknown)
            if now != told:
                told = now
                yield health_pb2.HealthCheckResponse(status=now)
            await changed.wait()


class Health:
    """Readiness per gRPC service name, shown on any server that it is added to; `""` stands for the
    whole.
    """

    def __init__(self, *names: str) -> None:
        self._names = ("", *names)
        self._servicer = _Answering()
        self._ready = False

    @property
    def is_ready(self) -> bool:
        """Whether it was last said to be."""
        return self._ready

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offers grpc.health.v1 on `server`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_ready(self, ready: bool) -> None:
        """SERVING or NOT_SERVING for all names."""
        self._ready = ready
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, status.SERVING if ready else status.NOT_SERVING)


@contextlib.asynccontextmanager
async def admin_server(
    listen: str, health: Health, meters: Meters | None = None
) -> AsyncIterator[int]:
    """Opens the admin port from the first moment: alive, and ready when `health` says so. Gives its
    number, 0 for a unix socket.
    """
    await health.set_ready(False)
    async with admin_port(listen, health, meters or Meters("stead")) as number:
        try:
            yield number
        finally:
            await health.set_ready(False)


def run(
    service: str,
    main: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    *,
    grace_s: float = GRACE_S,
) -> None:
    """Runs `main(stop)` to its end under uvloop; the process's exit code is 1 if it raised, 3 if it
    took longer than `grace_s` after it was told to stop, or was told twice.
    """
    configure(service)
    uvloop.run(_until_stopped(main, grace_s))


async def _until_stopped(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, None]], grace_s: float
) -> None:
    stop, told = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, told, grace_s)
    logger().info("started", pid=os.getpid())
    try:
        await main(stop)
    except Exception:
        logger().exception("ended by an error")
        raise
    logger().info("ended")


def _on_signal(stop: asyncio.Event, told: asyncio.Event, grace_s: float) -> None:
    if told.is_set():
        # Who says it twice does not want to wait; nothing that is kept depends on a graceful end.
        os._exit(CUT_SHORT)
    told.set()
    stop.set()
    asyncio.get_running_loop().call_later(grace_s, os._exit, CUT_SHORT)


async def run_until(stop: asyncio.Event, *forever: Coroutine[Any, Any, None]) -> None:
    """Runs the coroutines until `stop` is set; what one of them raises is raised here."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in forever]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def every(period_s: float, do: Callable[[], Awaitable[None]]) -> None:
    """Calls `do` again and again, `period_s` after each end; an error is logged and does not end
    it. A trouble that lasts is logged once.
    """
    work, trouble = getattr(do, "__qualname__", repr(do)), ""
    while True:
        try:
            await do()
            trouble = ""
        except CloudError as error:
            if error.reason != trouble:
                trouble = error.reason
                logger().warning("periodic work failed", work=work, error=repr(error))
        except Exception:  # noqa: BLE001  # the next round may do better
            logger().exception("periodic work failed", work=work)
        await asyncio.sleep(period_s)
