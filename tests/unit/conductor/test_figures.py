"""What the conductor shows of its operations."""

from __future__ import annotations

from collections import Counter

from services.conductor.edges.figures import add_figures
from services.conductor.flows.commit import _ended
from services.conductor.flows.ports import OperationCount
from services.conductor.logic.items import Committed, Item
from services.conductor.logic.operations import ended
from services.conductor.logic.rows import OperationFault
from services.domain.instance import Action
from services.domain.operation import OperationAction, OperationState, Phase
from services.runtime.metrics import Meters
from tests.unit.conductor.situations import switching


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


def test_a_reason_that_is_not_registered_is_counted_with_the_others() -> None:
    """A host may give any word: what is counted by it must not grow without end."""
    situation = switching(Action.STOP)
    assert situation.operation is not None
    items, outcomes = [], []
    for reason in ("HYPERVISOR_REFUSED", "MADE_UP_1", "MADE_UP_2"):
        fault = OperationFault(13, reason, "no")
        over = ended(situation.operation, OperationState.FAILED, 9.0, fault)
        items.append(Item(operations=(over,)))
        outcomes.append(Committed(()))
    counted = Counter(_ended(items, outcomes))
    assert {reason: count for (*_, reason), count in counted.items()} == {
        "HYPERVISOR_REFUSED": 1,
        "OTHER": 2,
    }
