"""The supervisor, with processes that live and die as a test says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from services.cli.flows import supervise
from services.cli.flows.down import take_down
from services.cli.flows.supervise import Supervisor
from services.cli.flows.up import check_port, end_leftovers
from services.cli.logic.options import Options
from services.cli.logic.state import CloudState, Phase, Seat, SeatState, read, written
from services.cli.logic.units import Probe, Unit
from services.domain.errors import Conflict, Unavailable
from tests.warp import run_warped

PATIENCE_S = 60


@dataclass
class FakeChild:
    pid: int
    started: int
    code: asyncio.Future[int]

    async def wait(self) -> int:
        return await asyncio.shield(self.code)


@dataclass
class FakeProcesses:
    """Remembers who was started and ended, in order."""

    dies_at_once: set[str] = field(default_factory=set)
    alive: dict[int, int] = field(default_factory=dict)
    children: dict[int, FakeChild] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    holder: str | None = None
    cut_back: Counter[str] = field(default_factory=Counter)

    def started(self, pid: int) -> int | None:
        return self.alive.get(pid)

    async def spawn(self, unit: Unit) -> FakeChild:
        pid = 100 + len(self.children)
        child = FakeChild(pid, pid * 10, asyncio.get_running_loop().create_future())
        self.children[pid], self.alive[pid] = child, child.started
        self.labels[pid] = unit.label
        self.events.append(f"start {unit.label}")
        if unit.label in self.dies_at_once:
            self.die(pid, 1)
        return child

    def die(self, pid: int, code: int) -> None:
        del self.alive[pid]
        self.children[pid].code.set_result(code)

    async def end(self, pid: int, started: int, *, number: int, grace_s: float) -> None:
        if self.alive.get(pid) == started:
            self.events.append(f"end {self.labels.get(pid, pid)}")
            if pid in self.children:
                self.die(pid, -number)
            else:
                del self.alive[pid]

    def last_words(self, unit: Unit) -> str:
        return f"{unit.label} said goodbye"

    async def cut_back_log(self, unit: Unit) -> None:
        self.cut_back[unit.label] += 1

    def port_holder(self, host: str, port: int) -> str | None:
        return self.holder


class ReadyAtOnce:
    async def is_ready(self, probe: Probe, *, endpoint: str, admin_endpoint: str) -> bool:
        return True


def _unit(name: str, *, needs: frozenset[str] = frozenset(), ends_in: int = 0) -> Unit:
    return Unit(name, (name,), Probe.HEALTH, "", needs=needs, ends_in=ends_in)


CHAIN = [
    _unit("postgres", ends_in=2),
    _unit("conductor", needs=frozenset({"postgres"}), ends_in=1),
    _unit("api", needs=frozenset({"conductor"})),
]


async def _eventually(condition: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_S * 100):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def _supervisor(processes: FakeProcesses, told: list[str] | None = None) -> Supervisor:
    tell = (told if told is not None else []).append
    return Supervisor(CHAIN, processes=processes, probes=ReadyAtOnce(), tell=tell)


async def _run(supervisor: Supervisor, stop: asyncio.Event, up: asyncio.Event) -> None:
    await supervisor.run(stop, on_up=up.set, changed=lambda: None)


async def test_what_is_needed_starts_first_and_ends_last() -> None:
    processes, stop, up = FakeProcesses(), asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(_run(_supervisor(processes), stop, up))
        await up.wait()
        stop.set()
    assert processes.events == [
        "start postgres",
        "start conductor",
        "start api",
        "end api",
        "end conductor",
        "end postgres",
    ]
    assert not processes.alive


def test_what_dies_is_started_again_and_counted() -> None:
    async def play() -> None:
        processes, stop, up = FakeProcesses(), asyncio.Event(), asyncio.Event()
        supervisor = _supervisor(processes)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(_run(supervisor, stop, up))
            await up.wait()
            for _ in range(3):
                processes.die(supervisor.seats["conductor"].pid, -9)
                await _eventually(lambda: supervisor.seats["conductor"].pid == 0)
                await _eventually(lambda: supervisor.seats["conductor"].state is SeatState.RUNNING)
            stop.set()
        assert supervisor.seats["conductor"].restarts == 3
        assert processes.events.count("start conductor") == 4
        assert processes.events.count("start api") == 1

    run_warped(play())


def test_the_log_of_what_runs_is_cut_back_while_it_runs() -> None:
    async def play() -> None:
        processes, stop, up = FakeProcesses(), asyncio.Event(), asyncio.Event()
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(_run(_supervisor(processes), stop, up))
            await up.wait()
            await _eventually(lambda: set(processes.cut_back) == {unit.label for unit in CHAIN})
            stop.set()

    run_warped(play())


def test_what_never_starts_ends_the_attempt_with_its_last_words() -> None:
    async def play() -> None:
        processes = FakeProcesses(dies_at_once={"conductor"})
        with pytest.raises(Unavailable) as refused:
            async with asyncio.timeout(PATIENCE_S):
                await _run(_supervisor(processes), asyncio.Event(), asyncio.Event())
        assert refused.value.reason == "START_FAILED"
        assert "conductor said goodbye" in refused.value.message
        assert processes.events.count("start conductor") == supervise.EARLY_DEATHS_MAX
        assert not processes.alive

    run_warped(play())


async def test_a_stop_while_starting_ends_what_was_started() -> None:
    processes, stop, up = FakeProcesses(), asyncio.Event(), asyncio.Event()
    supervisor = _supervisor(processes)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(_run(supervisor, stop, up))
        await _eventually(lambda: "start postgres" in processes.events)
        stop.set()
    assert not up.is_set()
    assert not processes.alive


@dataclass
class FakeStore:
    state: CloudState | None = None
    locked: bool = False

    def open(self) -> str:
        return "c1"

    def lock(self) -> bool:
        return not self.locked

    def is_locked(self) -> bool:
        return self.locked

    def state_read(self) -> CloudState | None:
        return self.state

    def state_write(self, state: CloudState) -> None:
        self.state = read(written(state))

    def sockets_clear(self) -> None:
        """There are none."""

    def has_guests(self) -> bool:
        return False


def _seat(name: str, pid: int, started: int, admin: str = "") -> Seat:
    return Seat(name, 0, "health", "", admin, 15, auxiliary=False, pid=pid, started=started)


async def test_leftovers_are_ended_only_where_pid_and_start_time_are_the_same() -> None:
    seats = [_seat("postgres", 7, 70), _seat("api", 8, 80, "unix:/a"), _seat("nats", 9, 90)]
    store = FakeStore(CloudState(1, 10, Phase.UP, Options(), seats))
    # 9 was given to another process since.
    processes = FakeProcesses(alive={7: 70, 8: 80, 9: 91})
    assert await end_leftovers(store, processes) == ["postgres", "api"]
    assert processes.events == ["end 8", "end 7"]
    assert processes.alive == {9: 91}


async def test_down_ends_what_a_dead_supervisor_left() -> None:
    store = FakeStore(CloudState(1, 10, Phase.UP, Options(), [_seat("api", 8, 80, "unix:/a")]))
    processes = FakeProcesses(alive={8: 80})
    assert await take_down(store, processes) == ["api"]
    assert store.state is not None
    assert store.state.phase is Phase.DOWN
    assert await take_down(store, processes) == []


def test_a_taken_port_is_refused_with_port_holder_and_flag() -> None:
    with pytest.raises(Conflict) as refused:
        check_port(FakeProcesses(holder="pid 7: nginx"), Options())
    assert refused.value.metadata == {"port": "8774", "holder": "pid 7: nginx", "flag": "--listen"}
    check_port(FakeProcesses(holder=None), Options())
