"""What the conductor shows to whoever watches over it, beside what every service counts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.conductor.flows.ports import OperationCount
from services.domain.kinds import HostState
from services.runtime.metrics import Meters, Reading

LABELS = ("action", "state", "phase")

Count = Callable[[], Awaitable[Sequence[OperationCount]]]


def add_figures(
    meters: Meters,
    count_operations: Count,
    ended: Mapping[tuple[str, ...], int],
) -> None:
    """Operations that are under way, how old they are, and those that this conductor has ended, by
    action, state and reason. Both figures of a page come from one look.
    """
    look = _together(count_operations)

    async def counts() -> Reading:
        return {_labels(c): c.count for c in await look()}

    async def ages() -> Reading:
        return {_labels(c): c.oldest_s for c in await look()}

    meters.gauge("operations", "Operations that are under way.", counts, LABELS)
    meters.counter(
        "operations_ended",
        "Operations that this conductor has ended.",
        lambda: ended,
        ("action", "state", "reason"),
    )
    meters.gauge(
        "operations_oldest_seconds", "How long the oldest such one has been so.", ages, LABELS
    )


def add_host_figures(meters: Meters, states: Callable[[], Mapping[HostState, int]]) -> None:
    """Hosts by state. One that is UNKNOWN is an alarm: many fell silent, or the road did."""

    async def counts() -> Reading:
        found = states()
        return {(state.name,): found.get(state, 0) for state in HostState}

    meters.gauge("hosts", "Hosts by state, as this conductor last judged them.", counts, ("state",))


def _labels(count: OperationCount) -> tuple[str, ...]:
    return count.action.name, count.state.name, count.phase.name


def _together(count: Count) -> Count:
    """Whoever asks while an answer is on its way waits for that one."""
    on_its_way: asyncio.Task[Sequence[OperationCount]] | None = None

    async def look() -> Sequence[OperationCount]:
        nonlocal on_its_way
        if on_its_way is None or on_its_way.done():
            on_its_way = asyncio.ensure_future(count())
        return await asyncio.shield(on_its_way)

    return look
