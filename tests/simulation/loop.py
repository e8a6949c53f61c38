"""An event loop of one thread whose time is virtual and whose order is drawn from a seed.

When nothing is ready the clock jumps to the next timer. Of the tasks that are ready one is drawn;
the callbacks of one task keep their order. Whatever runs belongs to a `Being`, a simulated process:
of a dead one nothing runs any more, of one that stands still nothing until it goes on. Does not
know what a process does (`world`).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
import random
import struct
import sys
import zlib
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

Result = TypeVar("Result")

BEING: contextvars.ContextVar[Being | None] = contextvars.ContextVar("being", default=None)
TASK: contextvars.ContextVar[int] = contextvars.ContextVar("task", default=0)

if TYPE_CHECKING:
    # What it does not have nobody here asks for.
    _Loop = asyncio.SelectorEventLoop
else:
    _Loop = asyncio.AbstractEventLoop

STEPS_MAX = 600_000
CLOSES_MAX = 20
UNBEGUN = inspect.CORO_CREATED


class Being:
    """One simulated process: what runs in its name. `doom` is after how many of its steps it is
    killed, negative while nothing threatens it.
    """

    def __init__(self, name: str, loop: SimulatedLoop) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.doom = -1
        self.steps = 0
        self.held: list[asyncio.Handle] = []
        self.on_death: dict[int, Callable[[], None]] = {}
        self._loop = loop

    def spawn(self, work: Coroutine[Any, Any, Result], name: str = "") -> asyncio.Task[Result]:
        """Runs it as a task of this process."""
        return self._loop.create_task(work, name=name, context=self.context())

    def context(self) -> contextvars.Context:
        """What marks a callback as this process's."""
        context = contextvars.Context()
        context.run(BEING.set, self)
        context.run(TASK.set, self._loop.next_serial())
        return context

    def kill(self) -> None:
        """As by SIGKILL: nothing of it runs any more, no `finally` either."""
        if not self.alive:
            return
        self.alive = False
        self._loop.bury()
        self.held.clear()
        deaths, self.on_death = list(self.on_death.values()), {}
        for on_death in deaths:
            on_death()

    def pause(self) -> None:
        """As by SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """As by SIGCONT: what was due meanwhile is due now."""
        self.paused = False
        held, self.held = self.held, []
        for handle in held:
            self._loop.enqueue(handle)


class SimulatedLoop(_Loop):
    """The loop. `crc` sums up the run so far: two runs of one seed have the same."""

    def __init__(self, rng: random.Random) -> None:
        self._draw = rng.random
        self._now_s = 0.0
        self._ready: dict[int, deque[asyncio.Handle]] = {}
        self._keys: list[int] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = 0
        self._graves: list[asyncio.Task[Any]] = []
        self._closed = False
        self.steps = 0
        self.crc = 0
        self.errors: list[str] = []

    # What the rest of asyncio asks of a loop.

    def time(self) -> float:
        return self._now_s

    def call_soon(  # type: ignore[override]  # the stubs want TypeVarTuple
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.enqueue(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self.next_serial(), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # the stubs want a Generator too
        self,
        coro: Coroutine[Any, Any, Result],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Result]:
        context = contextvars.copy_context() if context is None else context.copy()
        serial = self.next_serial()
        context.run(TASK.set, serial)
        return asyncio.Task(coro, loop=self, name=name or f"task {serial}", context=context)

    def run_in_executor(  # type: ignore[override]  # done at once
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whoever waits raises it
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {error!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    # What makes it simulated.

    def next_serial(self) -> int:
        """Numbers tasks and timers, so that no order hangs on addresses."""
        self._serial += 1
        return self._serial

    def enqueue(self, handle: asyncio.Handle) -> None:
        """Makes it ready, unless its process is dead or stands still."""
        context: contextvars.Context = handle._context  # type: ignore[attr-defined]  # whose it is stands there
        being = context.get(BEING)
        if being is not None:
            if not being.alive:
                return
            if being.paused:
                being.held.append(handle)
                return
        if self._closed:
            return
        serial = context.get(TASK, 0)
        queue = self._ready.get(serial)
        if queue is None:
            queue = self._ready[serial] = deque()
            insort(self._keys, serial)
        queue.append(handle)

    def bury(self) -> None:
        """Keeps all tasks of now: no `finally` of a dead one may run since nobody knows it."""
        self._graves.extend(asyncio.all_tasks(self))

    def run_until_complete(self, future: Any) -> Any:
        """Runs until it is done; raises RuntimeError where it never will be."""
        task = self.create_task(future) if asyncio.iscoroutine(future) else future
        before = asyncio._get_running_loop()  # a loop of its own may run inside of a test's
        asyncio._set_running_loop(self)  # as every loop does
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize)
        try:
            while not task.done():
                self._step()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(before)  # as above
        return task.result()

    def close(self) -> None:
        """Lets go of everything; nothing runs any more."""
        self._closed = True
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # they end with their world
        for task in self._graves:
            work: Any = task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == UNBEGUN:
                work.close()  # or Python warns of it; nothing of it has run
        self._graves.clear()
        self._ready.clear()
        self._keys.clear()
        self._timers.clear()

    def _finalize(self, generator: Any) -> None:
        if not self._closed:
            self.create_task(generator.aclose())

    def _step(self) -> None:
        keys = self._keys
        if not keys:
            self._jump()
            return
        place = int(self._draw() * len(keys))
        serial = keys[place]
        queue = self._ready[serial]
        handle = queue.popleft()
        if not queue:
            del self._ready[serial]
            del keys[place]
        if handle.cancelled():
            return
        being = handle._context.get(BEING)  # type: ignore[attr-defined]  # as above
        if being is not None and not self._may_step(being, handle):
            return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError("the run does not come to an end")
        self.crc = zlib.crc32(struct.pack("<dI", self._now_s, serial & 0xFFFFFFFF), self.crc)
        handle._run()  # as every loop does

    def _may_step(self, being: Being, handle: asyncio.Handle) -> bool:
        if not being.alive:
            return False
        if being.paused:
            being.held.append(handle)
            return False
        if being.doom == 0:
            being.doom = -1
            being.kill()
            return False
        being.doom -= being.doom > 0
        being.steps += 1
        return True

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("nothing will ever happen any more")
        self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                self.enqueue(handle)


def _end(task: asyncio.Task[Any]) -> None:
    """Leaves its work where it stands; what it waits for on its way out does not come."""
    work: Any = task.get_coro()
    for _ in range(CLOSES_MAX):
        try:
            work.close()
        except BaseException:  # noqa: BLE001  # it waits once more, or fails: it is over either way
            continue
        return
