"""How soon an operation is looked at again."""

from __future__ import annotations

from services.conductor.logic.paces import USUAL_PACES, Paces
from services.domain.operation import Phase

PACES = Paces(place_s=1.0, first_s=2.0, most_s=60.0, young_s=60.0)


def test_looks_double_up_to_a_minute_once_the_operation_is_no_longer_young() -> None:
    young = [PACES.again(Phase.BUILDING, age_s=59.0, looks=looks) for looks in (1, 5, 40)]
    old = [PACES.again(Phase.BUILDING, age_s=60.0, looks=looks) for looks in (1, 2, 3, 4, 5, 40)]
    assert young == [2.0] * 3
    assert old == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert PACES == USUAL_PACES


def test_who_waits_for_a_host_is_looked_at_as_often_at_any_age() -> None:
    assert {PACES.again(Phase.PLACING, age_s=age_s, looks=9) for age_s in (0.0, 1e6)} == {1.0}
