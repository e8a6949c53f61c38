"""Bringing a cloud up: one supervisor per home, leftovers ended first, then everything in order."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.cli.flows.ports import Plans, Probes, Processes, Store, Tell
from services.cli.flows.supervise import GRACE_S, Supervisor
from services.cli.logic.options import Options, differences, listen_address
from services.cli.logic.state import CloudState, Phase
from services.domain.errors import Conflict, Unavailable

OTHER_STARTS_S = 120.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything outside that bringing up needs."""

    store: Store
    processes: Processes
    probes: Probes
    plans: Plans


async def bring_up(
    machine: Machine,
    options: Options,
    *,
    stop: asyncio.Event,
    on_up: Callable[[Options], None],
    tell: Tell,
) -> None:
    """Runs the cloud until `stop`; the caller holds the home's lock. Raises Conflict, Unavailable,
    Invalid.
    """
    cloud_id = machine.store.open()
    ended = await end_leftovers(machine.store, machine.processes)
    if ended:
        tell(f"ended what an earlier run had left: {', '.join(ended)}")
    machine.store.sockets_clear()
    check_port(machine.processes, options)
    pid = os.getpid()
    state = CloudState(pid, machine.processes.started(pid) or 0, Phase.STARTING, options)
    machine.store.state_write(state)
    units = await asyncio.to_thread(machine.plans.units, options, cloud_id)
    supervisor = Supervisor(units, processes=machine.processes, probes=machine.probes, tell=tell)
    state.seats = list(supervisor.seats.values())

    def up() -> None:
        state.phase = Phase.UP
        machine.store.state_write(state)
        on_up(options)

    async def note_stop() -> None:
        await stop.wait()
        state.phase = Phase.STOPPING

    noting = asyncio.create_task(note_stop())
    try:
        await supervisor.run(stop, on_up=up, changed=lambda: machine.store.state_write(state))
    finally:
        noting.cancel()
        state.phase = Phase.DOWN
        machine.store.state_write(state)


async def end_leftovers(store: Store, processes: Processes) -> list[str]:
    """Ends what a dead supervisor had started, by pid and start time, the last started first; their
    labels.
    """
    state = store.state_read()
    if state is None:
        return []
    left = [
        seat for seat in state.seats if seat.pid and processes.started(seat.pid) == seat.started
    ]
    engines = [seat for seat in left if not seat.admin_endpoint]
    for group in ([seat for seat in left if seat.admin_endpoint], engines):
        await asyncio.gather(
            *(
                processes.end(seat.pid, seat.started, number=seat.stop_signal, grace_s=GRACE_S)
                for seat in group
            )
        )
    return [seat.label for seat in left]


def check_port(processes: Processes, options: Options) -> None:
    """Raises Conflict (PORT_TAKEN) if somebody listens where api shall, saying who."""
    host, port = listen_address(options.listen)
    holder = processes.port_holder(host, port)
    if holder is not None:
        who = f"by {holder}" if holder else "by a process that cannot be seen from here"
        raise Conflict(
            "PORT_TAKEN",
            f"port {port} of {host} is taken {who}; --listen chooses another",
            metadata={"port": str(port), "holder": holder, "flag": "--listen"},
        )


async def join_running(
    store: Store, processes: Processes, given: dict[str, Any]
) -> CloudState | None:
    """The state of the cloud that another supervisor runs here, once it is up; None if that ended.

    Raises Conflict (HOME_IN_USE) if it was asked for something else than `given`, Unavailable.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + OTHER_STARTS_S
    while loop.time() < until_s:
        state = store.state_read()
        if not store.is_locked():
            return None
        # What a killed one wrote down says nothing of the one that holds the lock now.
        current = state is not None and processes.started(state.pid) == state.started
        if state is not None and current and state.phase in (Phase.STARTING, Phase.UP):
            other = differences(state.options, given)
            if other:
                raise Conflict(
                    "HOME_IN_USE",
                    f"the cloud of this home runs already (supervisor pid {state.pid}) "
                    f"with another {', '.join(other)}",
                    metadata={"pid": str(state.pid), "flags": " ".join(other)},
                )
            if state.phase is Phase.UP:
                return state
        await asyncio.sleep(0.1)
    raise Unavailable(
        "START_TIMED_OUT", "another `stead up` of this home neither comes up nor ends; see its logs"
    )
