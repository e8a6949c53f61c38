"""The nemesis: does each fault of the plan when its time has come, makes sure that it really
happened, and heals it. Owns what was done. Does not choose what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

import psutil

from tests.chaos.awaited import until
from tests.chaos.homes import ChaosCloud, Seat
from tests.chaos.plan import SERVICES, WHILE_UNDECIDED, Fault

HEAL_S = 120.0
SERVICE_S = 30.0


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that really happened, in seconds of the monotonic clock."""

    fault: Fault
    label: str
    began_s: float
    healed_s: float


class Cut(Protocol):
    """A road that can be cut: `tests.chaos.links.Road`, `tests.chaos.packets.Packets`."""

    @property
    def passing(self) -> int:
        """How many connections use it."""
        ...

    def break_(self, mode: str) -> int:
        """Cuts it; how many connections feel it."""
        ...

    def mend(self) -> None:
        """Makes it whole."""
        ...


Roads = dict[str, Sequence[Cut]]


class Nemesis:
    """Breaks one cloud by plan."""

    def __init__(self, cloud: ChaosCloud, roads: Roads, seed: int) -> None:
        self._cloud = cloud
        self._roads = roads
        self._random = Random(seed)
        self._under_way: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()
        self.done: list[Done] = []
        self.missed: list[str] = []

    async def follow(self, plan: list[Fault]) -> None:
        """Does all faults, each at its time; returns when the last one is over."""
        began_s = time.monotonic()
        for fault in plan:
            await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
            task = asyncio.create_task(self._do(fault))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        if self._under_way:
            await asyncio.gather(*self._under_way)

    async def heal(self) -> None:
        """Undoes whatever is left, and returns when every process of the cloud runs again. Raises
        TimeoutError.
        """
        for road in (road for roads in self._roads.values() for road in roads):
            road.mend()
        for disk in ("hosts", "database"):
            self._cloud.empty(disk)
        self._cloud.clock_file.write_text("+0\n")
        seats = self._cloud.seats
        await until(
            lambda: all(s.state == "running" and s.runs() for s in seats().values()), HEAL_S
        )

    async def _do(self, fault: Fault) -> None:
        label = self._label(fault)
        # Two faults of one thing at once would heal each other.
        await until(lambda: label not in self._busy, HEAL_S)
        self._busy.add(label)
        began_s = time.monotonic()
        try:
            happened = await self._happen(fault, label)
        except (OSError, psutil.Error, TimeoutError) as error:
            happened = False
            self.missed.append(f"{fault.kind} {label}: {type(error).__name__} {error}")
        finally:
            self._busy.discard(label)
        if happened:
            self.done.append(Done(fault, label, began_s, time.monotonic()))
        else:
            self.missed.append(f"{fault.kind} {label} {fault.part}")

    def _label(self, fault: Fault) -> str:
        if fault.target in SERVICES:
            labels = [s.label for s in self._cloud.seats().values() if s.name == fault.target]
            return self._random.choice(sorted(labels))
        return f"{fault.target} {fault.part}" if fault.target != "clock" else "clock"

    async def _happen(self, fault: Fault, label: str) -> bool:
        if fault.target == "network":
            return await self._cut(await self._used(self._roads[fault.part]), fault)
        if fault.target == "disk":
            return await self._fill(fault)
        if fault.target == "clock":
            return await self._shift(fault)
        seat = await self._running(label)
        if fault.kind == "pause":
            return await self._pause(seat, fault.lasts_s)
        if fault.part == WHILE_UNDECIDED:
            return await self._kill_undecided(seat, fault.lasts_s)
        os.kill(seat.pid, signal.SIGKILL if fault.kind == "kill" else seat.stop_signal)
        return await self._ended(seat)

    async def _running(self, label: str) -> Seat:
        def runs() -> bool:
            return self._cloud.seats()[label].runs()

        await until(runs, SERVICE_S)
        return self._cloud.seats()[label]

    async def _ended(self, seat: Seat) -> bool:
        await until(lambda: not seat.runs(), SERVICE_S)
        return True

    async def _pause(self, seat: Seat, lasts_s: float) -> bool:
        """Stops a process with its children, and lets them go on."""
        main = psutil.Process(seat.pid)
        stopped = [main, *main.children(recursive=True)] if seat.name == "postgres" else [main]
        try:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(lasts_s)
            return main.status() == psutil.STATUS_STOPPED
        finally:
            for process in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    async def _kill_undecided(self, seat: Seat, lasts_s: float) -> bool:
        """Stops the scheduler, lets it gather what it is asked, and ends both: only rows know."""
        scheduler = await self._running("scheduler")
        os.kill(scheduler.pid, signal.SIGSTOP)
        await asyncio.sleep(lasts_s / 2)
        for one in (seat, scheduler):
            if one.runs():
                os.kill(one.pid, signal.SIGKILL)
        return await self._ended(seat) and await self._ended(scheduler)

    async def _used(self, roads: Sequence[Cut]) -> Cut:
        """One of those that somebody uses now."""
        await until(lambda: any(road.passing for road in roads), SERVICE_S)
        return self._random.choice([road for road in roads if road.passing])

    async def _cut(self, road: Cut, fault: Fault) -> bool:
        felt = road.break_(fault.kind)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            road.mend()
        return felt > 0

    async def _fill(self, fault: Fault) -> bool:
        self._cloud.fill(fault.part)
        try:
            await asyncio.sleep(fault.lasts_s)
            return self._cloud.is_full(fault.part)
        finally:
            self._cloud.empty(fault.part)

    async def _shift(self, fault: Fault) -> bool:
        shifted = [s for s in self._cloud.seats().values() if s.name == "compute" and s.runs()]
        self._cloud.clock_file.write_text(f"{fault.part}\n")
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            self._cloud.clock_file.write_text("+0\n")
        return any("libfaketime" in _mapped(seat.pid) for seat in shifted)


def _mapped(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""
