"""What a host does with guests that are on their way out: it stops them first, and erases nothing
without a recorded word. MECHANICS C7.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from services.compute.logic.guest import Claim, Guest
from services.compute.logic.observation import Past, observation_of
from services.compute.logic.plan import Moment, Refusal, Step, StepKind, next_step
from services.compute.logic.wanted import View, Wanted, Wishes
from services.domain.instance import ALIVE, Power
from tests.unit.compute.test_plan import guest, wish

AT_ONCE = Moment(0.0, graceful_stop=False)
ANY_GUEST = [
    guest(epoch=5, prepared=prepared, power=power, applied=applied)
    for prepared, power, applied in itertools.product((False, True), Power, (0, 1))
]


def leaving(*, unclaimed: bool = False) -> Wanted:
    return replace(wish(epoch=5), leaving=True, unclaimed=unclaimed)


def chosen(wanted: list[Wanted], guests: list[Guest]) -> StepKind | None:
    step = next_step(wanted, guests, past=Past(), moment=AT_ONCE)
    assert step is None or isinstance(step, Step)
    return step.kind if step else None


@pytest.mark.parametrize("found", ANY_GUEST, ids=str)
@pytest.mark.parametrize("unclaimed", [False, True])
def test_a_guest_that_leaves_without_the_word_is_stopped_and_kept(
    found: Guest, *, unclaimed: bool
) -> None:
    stop = StepKind.STOP if found.power in ALIVE else None
    assert chosen([leaving(unclaimed=unclaimed)], [found]) is stop


def test_where_nothing_of_it_is_left_nothing_is_made_and_its_absence_is_told() -> None:
    assert chosen([leaving()], []) is None
    seen = observation_of(leaving(), [], Past())
    assert seen is not None
    assert seen.absent


def test_a_kept_guest_is_told_of_as_off_once_it_is() -> None:
    running = guest(epoch=5, power=Power.RUNNING, applied=1)
    assert observation_of(leaving(), [running], Past()) is None
    off = replace(running, power=Power.OFF, incarnation="")
    seen = observation_of(leaving(), [off], Past())
    assert seen is not None
    assert (seen.absent, seen.power, seen.applied_generation) == (False, Power.OFF, 1)


def test_nothing_is_told_of_what_has_no_claim() -> None:
    for guests in ([], [guest(epoch=5, power=Power.OFF)]):
        assert observation_of(leaving(unclaimed=True), guests, Past()) is None


def test_an_older_guest_is_stopped_where_a_newer_claim_came_and_one_that_is_newer_is_left() -> None:
    """Its instance has a higher epoch: whatever else is wanted, it may not run."""
    old, new = guest(epoch=3, power=Power.RUNNING), guest(epoch=9, power=Power.RUNNING)
    assert chosen([wish(epoch=5)], [old]) is StepKind.STOP
    assert chosen([leaving()], [new]) is None
    assert chosen([], [old]) is None


def test_a_build_does_not_wait_for_a_guest_that_is_kept() -> None:
    """It is refused, so that another host takes it: the kept one may stay for months."""
    kept = guest(epoch=5, power=Power.OFF, applied=1)
    step = next_step([leaving(), wish(epoch=9)], [kept], past=Past(), moment=AT_ONCE)
    assert isinstance(step, Refusal)
    assert (step.wanted.claim.epoch, step.failure.reason) == (9, "GUEST_IN_THE_WAY")


def test_the_word_about_an_unclaimed_guest_outlives_later_views_until_a_claim_is_made() -> None:
    wishes = Wishes()
    wishes.take_view(View("c", "h", 1, 10, (replace(leaving(unclaimed=True), revision=10),)))
    wishes.take_view(View("c", "h", 1, 20, ()))
    claim = Claim("a", 5)
    held = wishes.get(claim)
    assert held is not None
    assert held.leaving
    wishes.take_view(View("c", "h", 1, 30, (replace(wish(epoch=5), revision=5),)))
    now = wishes.get(claim)
    assert now is not None
    assert not now.leaving
