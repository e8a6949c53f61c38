"""Identities: UUIDs of version 7 in the order of creation."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.ids import new_id

LATEST_NS = 2**48 * 1_000_000 - 1


@given(st.integers(0, LATEST_NS), st.integers(0, LATEST_NS))
def test_a_later_id_is_greater(one_ns: int, other_ns: int) -> None:
    """To a quarter of a microsecond, as the fraction in the id has it."""
    early, late = sorted((one_ns, other_ns))
    if late - early >= 1000:
        assert new_id(early) < new_id(late)


def test_an_id_is_a_uuid_of_version_seven_in_lower_case() -> None:
    """As the contract promises of ids."""
    made = new_id()
    assert made == made.lower()
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
