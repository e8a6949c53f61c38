"""The ledger's arithmetic: exact integers, never below zero."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.domain.resources import Overcommit, Resources, target_of

AMOUNTS = st.builds(Resources, *(st.integers(min_value=0, max_value=2**40) for _ in range(3)))
RATIOS = st.builds(Overcommit, *(st.integers(min_value=0, max_value=100_000) for _ in range(3)))


@given(AMOUNTS, AMOUNTS, RATIOS)
def test_the_target_is_capacity_times_ratio_less_reserved(
    capacity: Resources, reserved: Resources, ratio: Overcommit
) -> None:
    """As MECHANICS A7 has it, rounded down, and nothing is promised that is below zero."""
    target = target_of(capacity, reserved, ratio)
    exact = capacity.memory_mib * ratio.memory_permille - reserved.memory_mib * 1000
    assert target.memory_mib == max(0, exact // 1000)
    assert min(target.vcpus, target.memory_mib, target.disk_gib) >= 0


@given(AMOUNTS, AMOUNTS)
def test_a_sum_has_room_for_its_parts(one: Resources, other: Resources) -> None:
    """Addition and fitting agree."""
    assert one.fits(one + other)
    assert other.fits(one + other)
