"""What the conductor shows of its operations."""

from __future__ import annotations

from services.conductor.edges.figures import add_figures
from services.conductor.flows.ports import OperationCount
from services.domain.operation import OperationAction, OperationState, Phase
from services.runtime.metrics import Meters


async def test_both_figures_of_a_page_come_from_one_look_and_each_page_looks_anew() -> None:
    looks: list[int] = []

    async def count() -> list[OperationCount]:
        looks.append(len(looks) + 1)
        kind = (OperationAction.CREATE_INSTANCE, OperationState.RUNNING, Phase.BUILDING)
        return [OperationCount(*kind, count=looks[-1], oldest_s=10.0 * looks[-1])]

    meters = Meters("test")
    add_figures(meters, count, {})
    first, second = (await meters.page()).decode(), (await meters.page()).decode()
    labels = '{action="CREATE_INSTANCE",phase="BUILDING",state="RUNNING"}'
    assert f"stead_operations{labels} 1.0\n" in first
    assert f"stead_operations_oldest_seconds{labels} 10.0\n" in first
    assert f"stead_operations{labels} 2.0\n" in second
    assert looks == [1, 2]
