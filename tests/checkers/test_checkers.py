"""The checkers are checked: each finds the history in which its invariant is broken, and none finds
anything in healthy ones.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkers.breaks import BREAKS, Story, story
from tests.checkers.checks import CHECKERS, check
from tests.checkers.healthy import some_history
from tests.checkers.history import History
from tests.examples import examples


def test_a_healthy_history_breaks_nothing() -> None:
    """The one from which all broken ones are made."""
    assert check(story().history) == []


@settings(max_examples=examples(200), deadline=None)
@given(seed=st.integers(min_value=0), steps=st.integers(min_value=0, max_value=60))
def test_no_healthy_history_breaks_anything(seed: int, steps: int) -> None:
    """Any number of instances, in any order of steps."""
    assert check(some_history(Random(seed), steps)) == []


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_one_change_breaks_what_it_should_and_nothing_else(
    broken: Callable[[Story], History],
) -> None:
    """By all checkers: those that must see it do, the others are silent."""
    found = check(broken(story()))
    assert {one.invariant for one in found} == BREAKS[broken], found


def test_every_checker_has_a_history_that_only_it_can_see() -> None:
    """A checker without one fails here."""
    alone = {next(iter(seen)) for seen in BREAKS.values() if len(seen) == 1}
    assert CHECKERS.keys() - alone <= {"I1 one host"}
    assert CHECKERS.keys() == set().union(*BREAKS.values())


def test_a_checker_by_itself_finds_the_same_as_among_all() -> None:
    """Simulation and chaos may ask for one."""
    for broken, seen in BREAKS.items():
        history = broken(story())
        for invariant in seen:
            assert CHECKERS[invariant](history)
