"""One connection to libvirtd: opened when needed, and again when libvirtd was restarted.

Owns the connection, its threads and its events. Does not own what is asked of libvirt.

libvirt's own event loop runs in a thread of its own: libvirtaio calls the asyncio loop from the
threads in which libvirt is called, which uvloop does not allow.
"""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import libvirt

from services.domain.errors import Unavailable
from services.runtime.log import logger

T = TypeVar("T")

CALL_S = 60.0
OPEN_S = 10.0
OPEN_PAUSE_S = 0.2
KEEPALIVE_S = 5
KEEPALIVE_MISSES = 3
THREADS = 4
EVENTS_WAITING = 1024

_LOST_DOMAINS = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
_LOST_CODES = frozenset({libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN})


class Connection:
    """A connection to the libvirtd at `uri`, made inside the running loop."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="libvirt")
        self._opening = threading.Lock()
        self._open: Any = None
        self._watch: int | None = None
        self._closed = False
        self._listeners: set[asyncio.Queue[str]] = set()
        _start_event_thread()

    async def call(self, work: Callable[[Any], T], within_s: float = CALL_S) -> T:
        """What `work(virConnect)` answers, in a thread.

        Raises Unavailable (HYPERVISOR_UNREACHABLE), TimeoutError, or what `work` raises.
        """
        if self._closed:
            raise Unavailable("HYPERVISOR_UNREACHABLE", "the connection to libvirtd is closed")
        return await ended(self._loop.run_in_executor(self._threads, self._run, work), within_s)

    async def keep_open(self) -> None:
        """Opens the connection again if it was lost and libvirtd is there; else says nothing."""
        with contextlib.suppress(Unavailable, TimeoutError):
            await self.call(lambda _: None)

    def listen(self) -> asyncio.Queue[str]:
        """The names of domains to which something happened; full, the queue loses some."""
        names: asyncio.Queue[str] = asyncio.Queue(EVENTS_WAITING)
        self._listeners.add(names)
        return names

    def unlisten(self, names: asyncio.Queue[str]) -> None:
        """Ends what `listen` began."""
        self._listeners.discard(names)

    async def close(self) -> None:
        """Lets go of libvirtd. Calls that are under way fail or end by themselves."""
        if self._closed:
            return
        self._closed = True
        await ended(self._loop.run_in_executor(self._threads, self._drop), CALL_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[Any], T]) -> T:
        connection = self._live()
        try:
            return work(connection)
        except libvirt.libvirtError as error:
            if is_lost(error):
                raise Unavailable(
                    "HYPERVISOR_UNREACHABLE", f"libvirtd went away: {error}"
                ) from error
            raise

    def _live(self) -> Any:
        with self._opening:
            if self._open is None or self._open.isAlive() != 1:
                self._open, self._watch = self._opened()
            return self._open

    def _opened(self) -> tuple[Any, int]:
        give_up_at = time.monotonic() + OPEN_S
        connection = None
        while connection is None:
            try:
                connection = libvirt.open(self.uri)
            except libvirt.libvirtError as error:
                if self._closed or time.monotonic() > give_up_at:
                    message = f"libvirtd does not answer at {self.uri}: {error}"
                    raise Unavailable("HYPERVISOR_UNREACHABLE", message) from error
                time.sleep(OPEN_PAUSE_S)
        connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_MISSES)
        watch = connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None
        )
        logger().info("connected to libvirtd", uri=self.uri)
        return connection, watch

    def _drop(self) -> None:
        with self._opening:
            connection, watch, self._open = self._open, self._watch, None
        if connection is None:
            return
        try:
            connection.domainEventDeregisterAny(watch)
            connection.close()
        except libvirt.libvirtError as error:
            logger().info("libvirtd was gone already", uri=self.uri, error=str(error))

    def _on_event(self, _connection: Any, domain: Any, _event: int, _detail: int, _: Any) -> None:
        if not self._closed:
            self._loop.call_soon_threadsafe(self._publish, domain.name())

    def _publish(self, name: str) -> None:
        for names in self._listeners:
            if not names.full():
                names.put_nowait(name)


async def ended(step: asyncio.Future[T], deadline_s: float) -> T:
    """What a thread's step answers; raises TimeoutError if it has not ended in time.

    A thread cannot be cancelled: who is cancelled meanwhile is kept until the step has ended, so
    that it cannot act behind the back of the next one.
    """
    try:
        done, _ = await asyncio.wait({step}, timeout=deadline_s)
    except asyncio.CancelledError:
        await asyncio.wait({step}, timeout=deadline_s)
        raise
    if not done:
        raise TimeoutError(f"a step did not end within {deadline_s:g} s")
    return step.result()


def is_lost(error: Any) -> bool:
    """Whether a libvirtError says that libvirtd cannot be reached, rather than that it refused."""
    return error.get_error_domain() in _LOST_DOMAINS or error.get_error_code() in _LOST_CODES


@functools.cache
def _start_event_thread() -> None:
    # libvirt knows one event loop per process, and would print every error that it also raises.
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, name="libvirt-events", daemon=True).start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
