"""What the conductor shows to whoever watches over it, beside what every service counts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.conductor.flows.ports import OperationCount
from services.runtime.metrics import Meters, Reading

LABELS = ("action", "state", "phase")


def add_figures(
    meters: Meters,
    count_operations: Callable[[], Awaitable[Sequence[OperationCount]]],
    ended: Mapping[tuple[str, ...], int],
) -> None:
    """Operations that are under way, how old they are, and those that this conductor has ended, by
    action, state and reason.
    """

    async def counts() -> Reading:
        return {_labels(c): c.count for c in await count_operations()}

    async def ages() -> Reading:
        return {_labels(c): c.oldest_s for c in await count_operations()}

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


def _labels(count: OperationCount) -> tuple[str, ...]:
    return count.action.name, count.state.name, count.phase.name
