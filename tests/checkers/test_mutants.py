"""With one guard out at a time simulation notices, and the checkers say what is broken."""

from __future__ import annotations

import pytest

from tests.checkers.mutants import MUTANTS, SHAPES, found_by, wrongs_of
from tests.simulation.run import run_seed

SEEDS = range(1, 13)
OPS = 100


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_simulation_finds_the_mutant(name: str) -> None:
    """Within a few seeds, by a checker."""
    seed, found = found_by(name, SEEDS, OPS)
    assert seed > 0, f"nobody noticed: {name}"
    assert any(one.startswith("I") for one in found), found


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_without_the_mutant_its_own_shape_breaks_nothing(name: str) -> None:
    """What is found is the mutant's doing."""
    told = run_seed(1, OPS, shape=SHAPES[name])
    assert wrongs_of(told) == []
