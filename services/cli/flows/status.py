"""Saying what runs: what is written down, compared with what lives and answers."""

import asyncio
from dataclasses import dataclass

from services.cli.flows.ports import Probes, Processes, Store
from services.cli.logic.state import CloudState, Phase, Seat, SeatState
from services.cli.logic.units import Probe

DEAD = "dead"
NOT_READY = "not ready"


@dataclass(frozen=True, slots=True)
class Seen:
    """One process: what was written down, and how it is in truth."""

    seat: Seat
    state: str


@dataclass(frozen=True, slots=True)
class Status:
    """The whole: `healthy` when a supervisor lives and every service of it answers."""

    healthy: bool
    state: CloudState | None
    seen: tuple[Seen, ...]


async def look(store: Store, processes: Processes, probes: Probes) -> Status:
    """Reads the state and asks every process whether it is ready."""
    state = store.state_read()
    if state is None or state.phase is Phase.DOWN:
        return Status(False, state, ())
    supervised = store.is_locked() and processes.started(state.pid) == state.started
    seen = await asyncio.gather(*(_see(seat, processes, probes) for seat in state.seats))
    healthy = supervised and bool(seen) and all(s.state == SeatState.RUNNING for s in seen)
    return Status(healthy and state.phase is Phase.UP, state, tuple(seen))


async def _see(seat: Seat, processes: Processes, probes: Probes) -> Seen:
    if not seat.pid:
        return Seen(seat, seat.state.value)
    if processes.started(seat.pid) != seat.started:
        return Seen(seat, DEAD)
    ready = await probes.is_ready(
        Probe(seat.probe), endpoint=seat.endpoint, admin_endpoint=seat.admin_endpoint
    )
    if ready:
        return Seen(seat, SeatState.RUNNING.value)
    starting = seat.state is SeatState.STARTING
    return Seen(seat, SeatState.STARTING.value if starting else NOT_READY)
