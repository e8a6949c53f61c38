"""The supervisor: starts processes in the order of their needs, restarts what dies, ends them in
order.

Owns the life of each process and what is written down of it. Does not own what they are.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.cli.flows.ports import Child, Probes, Processes, Tell
from services.cli.logic.state import Seat, SeatState
from services.cli.logic.units import Unit
from services.domain.errors import Unavailable

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STEADY_S = 10.0
LOOK_S = 0.05
START_S = 120.0
EARLY_DEATHS_MAX = 4
GRACE_S = 10.0
LOG_EVERY_S = 30.0


class Supervisor:
    """Keeps `units` running until told to stop."""

    def __init__(
        self, units: Sequence[Unit], *, processes: Processes, probes: Probes, tell: Tell
    ) -> None:
        self._units = units
        self._processes = processes
        self._probes = probes
        self._tell = tell
        self._changed: Callable[[], None] = lambda: None
        self._ready = {unit.name: asyncio.Event() for unit in units}
        self._started_once = False
        self._stopping = asyncio.Event()
        self.seats = {
            unit.label: Seat(
                name=unit.name,
                replica=unit.replica,
                probe=unit.probe.value,
                endpoint=unit.endpoint,
                admin_endpoint=unit.admin_endpoint,
                stop_signal=unit.stop_signal,
                auxiliary=unit.auxiliary,
            )
            for unit in units
        }

    async def run(
        self, stop: asyncio.Event, *, on_up: Callable[[], None], changed: Callable[[], None]
    ) -> None:
        """Starts all, calls `on_up`, and keeps all until `stop`. Raises Unavailable if they do not
        come up.
        """
        self._changed = changed
        stopped = asyncio.create_task(stop.wait())
        keepers = [asyncio.create_task(self._keep(unit)) for unit in self._units]
        try:
            await self._come_up(stopped, keepers)
            if not stop.is_set():
                self._started_once = True
                on_up()
                await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
                for keeper in keepers:
                    if keeper.done():
                        keeper.result()
        finally:
            self._stopping.set()
            await self._end_all()
            for task in (stopped, *keepers):
                task.cancel()
            await asyncio.gather(stopped, *keepers, return_exceptions=True)

    async def _come_up(
        self, stopped: "asyncio.Task[bool]", keepers: "Sequence[asyncio.Task[None]]"
    ) -> None:
        all_ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait(
                [all_ready, stopped, *keepers],
                timeout=START_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            all_ready.cancel()
        for keeper in keepers:
            if keeper.done():
                keeper.result()
        if not all_ready.done() and not stopped.done():
            late = [name for name, event in self._ready.items() if not event.is_set()]
            words = [self._processes.last_words(unit) for unit in self._units if unit.name in late]
            raise Unavailable(
                "START_TIMED_OUT",
                f"not ready within {START_S:.0f} s: {', '.join(late)}\n" + "\n".join(words[:1]),
            )

    async def _all_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    async def _keep(self, unit: Unit) -> None:
        seat = self.seats[unit.label]
        for need in sorted(unit.needs):
            await self._ready[need].wait()
        backoff_s = BACKOFF_FIRST_S
        while not self._stopping.is_set():
            child = await self._processes.spawn(unit)
            seat.pid, seat.started, seat.state = child.pid, child.started, SeatState.STARTING
            self._changed()
            began_s = asyncio.get_running_loop().time()
            code = await self._outlive(unit, child)
            seat.pid, seat.started = 0, 0
            if self._stopping.is_set():
                return
            seat.state = SeatState.RESTARTING
            seat.restarts += 1
            self._changed()
            if not self._started_once and seat.restarts >= EARLY_DEATHS_MAX:
                raise Unavailable(
                    "START_FAILED",
                    f"{unit.label} does not start (exit code {code})\n"
                    + self._processes.last_words(unit),
                )
            self._tell(f"{unit.label} ended (exit code {code}), starting it again")
            if asyncio.get_running_loop().time() - began_s > STEADY_S:
                backoff_s = BACKOFF_FIRST_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _outlive(self, unit: Unit, child: Child) -> int:
        beside = [asyncio.create_task(self._look(unit)), asyncio.create_task(self._keep_log(unit))]
        try:
            return await child.wait()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _keep_log(self, unit: Unit) -> None:
        while True:
            await asyncio.sleep(LOG_EVERY_S)
            await self._processes.cut_back_log(unit)

    async def _look(self, unit: Unit) -> None:
        seat = self.seats[unit.label]
        ready = False
        while not ready:
            await asyncio.sleep(LOOK_S)
            ready = await self._probes.is_ready(
                unit.probe, endpoint=unit.endpoint, admin_endpoint=unit.admin_endpoint
            )
        seat.state = SeatState.RUNNING
        self._changed()
        if not self._ready[unit.name].is_set():
            self._tell(f"{unit.label} is ready")
        if all(
            self.seats[other.label].state is SeatState.RUNNING
            for other in self._units
            if other.name == unit.name
        ):
            self._ready[unit.name].set()

    async def _end_all(self) -> None:
        for place in sorted({unit.ends_in for unit in self._units}):
            leaving = [self.seats[unit.label] for unit in self._units if unit.ends_in == place]
            await asyncio.gather(
                *(
                    self._processes.end(
                        seat.pid, seat.started, number=seat.stop_signal, grace_s=GRACE_S
                    )
                    for seat in leaving
                    if seat.pid
                )
            )
            for seat in leaving:
                seat.state = SeatState.STOPPED
                seat.pid, seat.started = 0, 0
            self._changed()
