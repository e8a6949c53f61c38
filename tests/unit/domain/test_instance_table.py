"""The table of legal transitions, exhaustively: every standing times every event."""

from __future__ import annotations

from itertools import product

import pytest

from services.domain.instance import (
    TABLE,
    Action,
    Event,
    Illegal,
    Standing,
    State,
    Task,
    after,
    allowed_actions,
)

STANDINGS = [Standing(state, task) for state, task in product(State, Task)]
REACHED = {Standing(State.REQUESTED, Task.SCHEDULING)} | set(TABLE.values())


@pytest.mark.parametrize("standing", STANDINGS, ids=str)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_a_standing_or_a_reason(standing: Standing, event: Event) -> None:
    """Nothing is left open: what is not legal says why."""
    following = after(standing, event)
    if isinstance(following, Illegal):
        assert following.reason
    else:
        assert following in REACHED


def test_deleted_is_the_end() -> None:
    """Nothing happens to what is gone."""
    gone = Standing(State.DELETED, Task.NONE)
    assert all(isinstance(after(gone, event), Illegal) for event in Event)


def test_every_living_standing_can_be_deleted() -> None:
    """Delete is legal from wherever an instance can be; asked again, it stays on its way."""
    for standing in REACHED:
        deletable = Action.DELETE in allowed_actions(standing)
        assert deletable == (standing.state is not State.DELETED)
        if standing.task is Task.DELETING:
            assert after(standing, Event.DELETE_ASKED) == standing


def test_every_standing_reaches_deleted() -> None:
    """No instance can get stuck where the table has no way out."""
    for standing in REACHED:
        if standing.state is State.DELETED:
            continue
        asked = standing if standing.task is Task.DELETING else after(standing, Event.DELETE_ASKED)
        assert isinstance(asked, Standing)
        assert after(asked, Event.GUEST_GONE) == Standing(State.DELETED, Task.NONE)


def test_the_table_uses_only_standings_that_can_be_reached() -> None:
    """A row that starts from a standing nobody reaches would be dead."""
    assert {standing for standing, _ in TABLE} <= REACHED
