"""Taking a cloud down. Guests are not part of it: they run on unless their end is asked for."""

import asyncio
import signal

from services.cli.flows.ports import Processes, Store
from services.cli.flows.up import end_leftovers
from services.cli.logic.state import Phase
from services.domain.errors import Unavailable

# Every process has 10 s in each of three places of the order, and the supervisor a little more.
DOWN_S = 45.0


async def take_down(store: Store, processes: Processes) -> list[str]:
    """Ends the supervisor with its services, or what a dead one left; the labels of what ran.

    Raises Unavailable if the supervisor cannot be found.
    """
    state = store.state_read()
    if not store.is_locked():
        ended = await end_leftovers(store, processes)
        if state is not None and state.phase is not Phase.DOWN:
            state.phase, state.seats = Phase.DOWN, []
            store.state_write(state)
        return ended
    if state is None or processes.started(state.pid) != state.started:
        raise Unavailable("SUPERVISOR_UNKNOWN", "a supervisor is only just starting; try again")
    running = [seat.label for seat in state.seats if seat.pid]
    await processes.end(state.pid, state.started, number=signal.SIGTERM, grace_s=DOWN_S)
    await _until_unlocked(store)
    left = await end_leftovers(store, processes)
    return running or left


async def _until_unlocked(store: Store) -> None:
    for _ in range(50):
        if not store.is_locked():
            return
        await asyncio.sleep(0.1)
