"""Masks, quotas and weights: the small arithmetic of acceptance."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conductor.logic.items import Item
from services.conductor.logic.mask import masked
from services.conductor.logic.quota import asked_of, excesses, metadata_of, violations_of
from services.conductor.logic.rows import KeyPairRow
from services.conductor.logic.weight import PLAIN_BYTES, weight_of
from services.domain.resources import UNLIMITED, QuotaAmounts, Resources
from tests.unit.conductor.situations import instance

FIELDS = ("name", "labels")


@pytest.mark.parametrize(
    ("paths", "fields"),
    [
        (("name",), frozenset({"name"})),
        (("labels", "name"), frozenset(FIELDS)),
        (("name", "name"), frozenset({"name"})),
        (("*",), frozenset(FIELDS)),
        (("*", "name"), frozenset(FIELDS)),
    ],
)
def test_a_mask_names_what_changes(paths: tuple[str, ...], fields: frozenset[str]) -> None:
    assert masked(paths, FIELDS) == fields


@pytest.mark.parametrize(
    "paths", [(), ("state",), ("name", "state"), ("labels.a",), ("",), ("*", "x")]
)
def test_a_mask_that_cannot_be_followed_says_why(paths: tuple[str, ...]) -> None:
    told = masked(paths, FIELDS)
    assert isinstance(told, str)
    assert "name, labels" in told


AMOUNTS = st.builds(QuotaAmounts, *(st.integers(0, 50) for _ in range(4)))
LIMITS = st.builds(QuotaAmounts, *(st.integers(-1, 50) for _ in range(4)))


@given(LIMITS, AMOUNTS, AMOUNTS)
def test_an_excess_is_told_of_exactly_the_limits_that_would_be_passed(
    limits: QuotaAmounts, used: QuotaAmounts, asked: QuotaAmounts
) -> None:
    found = excesses(limits, used, asked)
    passed = {
        name
        for name, limit in asdict(limits).items()
        if limit >= 0 and asdict(used)[name] + asdict(asked)[name] > limit
    }
    assert {one.resource for one in found} == passed
    metadata = metadata_of(found)
    assert set(violations_of(metadata)) == passed
    assert len(metadata) == 3 * len(passed)


@given(AMOUNTS, AMOUNTS)
def test_without_limits_everything_fits(used: QuotaAmounts, asked: QuotaAmounts) -> None:
    assert excesses(UNLIMITED, used, asked) == []


def test_a_violation_says_what_was_asked_used_and_allowed() -> None:
    limits, used = QuotaAmounts(10, 4, -1, -1), QuotaAmounts(2, 3, 9000, 9)
    found = excesses(limits, used, asked_of(Resources(2, 100, 1)))
    assert metadata_of(found) == {"vcpus_limit": "4", "vcpus_used": "3", "vcpus_asked": "2"}
    assert violations_of(metadata_of(found)) == {"vcpus": "2 asked beside 3 used, the limit is 4"}


def test_what_users_can_make_large_weighs() -> None:
    """Plain items are light, so that a batch of them is bounded by its number."""
    row = instance()
    light = weight_of(Item(instance=row))
    assert light < 2 * PLAIN_BYTES
    heavy = replace(
        row,
        labels={"k": "v" * 1000},
        wanted=replace(row.wanted, user_data=b"x" * 8192, ssh_public_keys=("k" * 4096,) * 16),
    )
    assert weight_of(Item(instance=heavy)) > light + 8192 + 16 * 4096 + 1000
    key = KeyPairRow("id", "project", "name", "k" * 4096, "", "ssh-ed25519", 0.0)
    assert weight_of(Item(entry=key)) > 4096
