"""What follows when a guest is not as it was left: the table, cell by cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.conductor.logic import lifecycle
from services.conductor.logic.audit_advice import ADVICE
from services.conductor.logic.guest_policy import POLICY, WITHOUT_GUEST, Sight, is_built
from services.conductor.logic.items import ClaimAct, Item
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import Situation
from services.domain.instance import STANDINGS, Power, Standing, State, Task
from services.domain.kinds import ClaimRole
from tests.unit.conductor.situations import claim, instance, requested, seen

SEEN: dict[Sight, dict[str, object]] = {
    Sight.UNSEEN: {"power": Power.PENDING, "applied_generation": 0},
    Sight.RUNNING: {"power": Power.RUNNING},
    Sight.OFF: {"power": Power.OFF},
    Sight.PAUSED: {"power": Power.PAUSED},
    Sight.SUSPENDED: {"power": Power.SUSPENDED},
    Sight.CRASHED: {"power": Power.CRASHED},
    Sight.LOST: {"power": Power.CRASHED, "failure": ("GUEST_LOST", "nothing is left")},
    Sight.ABSENT: {"power": Power.OFF, "absent": True, "failure": ("X", "y")},
}
RESTS = {
    State.ACTIVE: Power.RUNNING,
    State.STOPPED: Power.OFF,
    State.PAUSED: Power.PAUSED,
    State.SUSPENDED: Power.SUSPENDED,
}


def situation(state: State) -> Situation:
    """An instance of this state without a task but that of its building, held by h1."""
    building = state is State.BUILDING
    before = requested(instance(version=3, revision=3, host_id="h1", epoch=7))
    row = replace(
        before.instance,
        standing=Standing(state, Task.SPAWNING if building else Task.NONE),
        power=RESTS.get(state, Power.PENDING),
        wanted=replace(before.instance.wanted, power=RESTS.get(state, Power.RUNNING)),
    )
    operation = before.operation if building else None
    return Situation(row, operation, (claim(row),))


def told(now: Situation, sight: Sight) -> Seen:
    return replace(seen(now.instance), **SEEN[sight])  # type: ignore[arg-type]  # fields of Seen


def test_the_table_has_a_row_for_every_state_and_sight() -> None:
    """A state or a sight that is new fails here until it is decided what follows."""
    held = set(State) - WITHOUT_GUEST
    assert set(POLICY) == {(state, sight) for state in held for sight in Sight}
    assert set(SEEN) == set(Sight)


@pytest.mark.parametrize(("state", "sight"), POLICY)
def test_what_is_done_is_what_the_table_says(state: State, sight: Sight) -> None:
    """State, power, wish, fault and claim after an observation, in every cell."""
    now, follows = situation(state), POLICY[state, sight]
    item = lifecycle.observed(now, told(now, sight), 9.0)
    after = item.instance or now.instance
    assert after.standing.state is (follows.state or state)
    assert after.power is (follows.power or now.instance.power)
    assert after.wanted.power is (follows.wish or now.instance.wanted.power)
    assert bool(after.fault) is follows.fault
    assert after.wanted.present, "what an owner has is never wished away"
    released = any(change.act is ClaimAct.REMOVE for change in item.claims)
    assert released is follows.released


@pytest.mark.parametrize(("state", "sight"), POLICY)
def test_what_is_seen_twice_changes_nothing_more(state: State, sight: Sight) -> None:
    """The slow look says the same again."""
    now = situation(state)
    first = lifecycle.observed(now, told(now, sight), 9.0)
    if first.instance is None or any(c.act is ClaimAct.REMOVE for c in first.claims):
        return
    later = replace(now, instance=first.instance, operation=None)
    assert lifecycle.observed(later, told(later, sight), 10.0).instance is None


def test_a_vanished_guest_that_comes_back_is_no_longer_told_as_lost() -> None:
    """Its files were brought back: the fault goes with the cause."""
    now = situation(State.ACTIVE)
    lost = lifecycle.observed(now, told(now, Sight.LOST), 9.0).instance
    assert lost is not None
    assert lost.fault.startswith("GUEST_LOST: ")
    again = replace(now, instance=lost)
    back = lifecycle.observed(again, told(again, Sight.RUNNING), 10.0).instance
    assert back is not None
    assert (back.standing.state, back.fault) == (State.ACTIVE, "")


@pytest.mark.parametrize("standing", STANDINGS, ids=str)
@pytest.mark.parametrize("role", ClaimRole)
def test_a_guest_is_built_once_it_was_seen_made(standing: Standing, role: ClaimRole) -> None:
    """Only then is one that is gone not made anew."""
    row = instance(standing=standing)
    built = is_built(row, replace(claim(row), role=role))
    made = standing.state in RESTS
    moves = standing.task.name == "EVACUATING"
    assert built is (role is ClaimRole.HOLDER and made and not moves)


def test_an_observation_of_a_claim_that_leaves_moves_no_instance() -> None:
    """Whatever it says."""
    now = situation(State.ACTIVE)
    leaving = replace(now, claims=(replace(now.claims[0], role=ClaimRole.LEAVING),))
    for sight in Sight:
        item = lifecycle.observed(leaving, told(now, sight), 9.0)
        assert isinstance(item, Item)
        assert item.instance is None


def test_the_page_shows_the_table() -> None:
    """docs/audit.md: every cell, in words."""
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    for (state, sight), follows in POLICY.items():
        assert f"| {state.name} | {sight.value} | {follows.why} |" in page
    for kind, (cause, mend) in ADVICE.items():
        assert f"| `{kind.name}` | {cause} | {mend} |" in page
