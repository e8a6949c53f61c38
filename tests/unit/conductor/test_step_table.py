"""The table of steps: nothing is missing, every step may be taken twice, and what fails at any of
them is undone. The cases come from the table and the enums, so a new one fails by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conductor.logic import lifecycle, operations, overdue, steps
from services.conductor.logic.items import Item
from services.conductor.logic.rows import Situation
from services.conductor.logic.step_table import (
    AT_ONCE,
    ROWS,
    STEADY_PHASES,
    USUAL_DEADLINES,
    Deadlines,
    Limit,
    Row,
    StepKind,
    Undo,
    When,
    accepted_row,
    rows_of,
)
from services.domain.instance import Action, Power, State, Task
from services.domain.kinds import ClaimRole, HostState
from services.domain.operation import OperationAction, OperationState, Phase
from tests.unit.conductor.situations import (
    POWER_OPERATIONS,
    active,
    applied,
    building,
    delete,
    evacuating,
    ready,
    rebuilding,
    requested,
    seen,
    switching,
)

A = OperationAction
# A situation in which each phase of each action is, and the state of the instance before it.
STARTS: dict[tuple[A, Phase], Callable[[], Situation]] = {
    (A.CREATE_INSTANCE, Phase.PLACING): requested,
    (A.CREATE_INSTANCE, Phase.BUILDING): building,
    (A.DELETE_INSTANCE, Phase.REMOVING): lambda: delete(active()),
    (A.START_INSTANCE, Phase.STARTING): lambda: switching(Action.START),
    (A.STOP_INSTANCE, Phase.STOPPING): lambda: switching(Action.STOP),
    (A.REBOOT_INSTANCE, Phase.REBOOTING): lambda: switching(Action.REBOOT),
    (A.PAUSE_INSTANCE, Phase.PAUSING): lambda: switching(Action.PAUSE),
    (A.UNPAUSE_INSTANCE, Phase.UNPAUSING): lambda: switching(Action.UNPAUSE),
    (A.SUSPEND_INSTANCE, Phase.SUSPENDING): lambda: switching(Action.SUSPEND),
    (A.RESUME_INSTANCE, Phase.RESUMING): lambda: switching(Action.RESUME),
    (A.EVACUATE_INSTANCE, Phase.PLACING): evacuating,
    (A.EVACUATE_INSTANCE, Phase.BUILDING): rebuilding,
}
BEFORE = {
    operation: partial(ready, action)
    for action, operation in POWER_OPERATIONS.items()
    if action is not Action.HARD_REBOOT
}
KINDS: dict[StepKind, object] = {
    StepKind.PLACE: steps.Place,
    StepKind.COMMAND: steps.Command,
    StepKind.LET_GO: steps.LetGo,
    StepKind.GIVE_UP: steps.GiveUp,
    StepKind.MOVE_ON: steps.MoveOn,
    StepKind.WAIT: type(None),
}


def name(row: Row) -> str:
    return f"{row.action.name}-{row.phase.name}-{row.when.name}"


EVERY = pytest.mark.parametrize("row", ROWS, ids=name)


def in_row(row: Row) -> Situation:
    """A situation in which this row holds."""
    situation = STARTS[row.action, row.phase]()
    if row.when is When.OVERDUE:
        return replace(situation, overdue=True)
    if row.when in (When.HOST_DOWN, When.HOST_FENCED):
        fenced = row.when is When.HOST_FENCED
        down = tuple(
            replace(c, host_state=HostState.DOWN, host_fenced=fenced) for c in situation.claims
        )
        return replace(situation, claims=down)
    return situation


def test_every_action_has_steps_or_is_done_with_its_acceptance() -> None:
    with_steps = {row.action for row in ROWS}
    assert with_steps | AT_ONCE == set(OperationAction)
    assert not with_steps & AT_ONCE
    # Whoever begins in a phase has rows for it: an action is not taken for an instant one.
    assert set(operations._FIRST) == with_steps


def test_every_phase_that_an_operation_begins_in_or_enters_has_rows() -> None:
    for action, phase in operations._FIRST.items():
        assert rows_of(action, phase), (action, phase)
    in_table = {row.phase for row in ROWS}
    assert in_table == set(Phase) - {Phase.ENDED}


@pytest.mark.parametrize("action", OperationAction)
def test_every_step_has_a_deadline_a_pace_and_an_undo_or_why_it_needs_none(action: A) -> None:
    rows = [row for row in ROWS if row.action is action] or [accepted_row(action)]
    for row in rows:
        assert row.does, row
        assert row.undone, row
        if row.phase is Phase.ENDED:
            assert row.step is StepKind.ACCEPT
            continue
        assert row.limit is not Limit.NONE, row
        assert USUAL_DEADLINES.of(row.action, row.phase) > 0
        assert 0 < row.pace.first_s <= row.pace.most_s <= 60, row
    begun = [row.phase for row in rows if row.phase is not Phase.ENDED]
    for phase in dict.fromkeys(begun):
        ends = [r for r in rows_of(action, phase) if r.when is When.OVERDUE]
        assert len(ends) == 1, "each phase ends at its deadline"
        assert rows_of(action, phase)[0] is ends[0], "the deadline goes before all else"


def test_every_row_of_the_table_is_tried_here() -> None:
    assert {(row.action, row.phase) for row in ROWS} == set(STARTS)


def test_only_placing_is_looked_at_as_often_at_any_age() -> None:
    assert {Phase.PLACING} == STEADY_PHASES


@EVERY
def test_the_step_that_is_taken_is_the_one_of_the_table(row: Row) -> None:
    situation = in_row(row)
    assert steps.row_now(situation) == row
    step = steps.next_step(situation)
    assert type(step) is KINDS[row.step]


def test_an_overdue_build_on_a_fenced_host_ends_and_is_not_moved_on() -> None:
    for row in [row for row in ROWS if row.when is When.HOST_FENCED]:
        late = replace(in_row(row), overdue=True)
        assert isinstance(steps.next_step(late), steps.GiveUp)


def test_what_no_host_holds_though_one_should_waits_for_its_deadline_alone() -> None:
    for (action, phase), start in STARTS.items():
        if phase is Phase.PLACING:
            continue
        lost = replace(start(), claims=())
        taken = steps.next_step(lost)
        assert taken is None, (action, phase)
        late = steps.row_now(replace(lost, overdue=True))
        assert late is not None
        assert late.when is When.OVERDUE


@EVERY
def test_each_step_taken_twice_is_the_same_step_and_leaves_the_same(row: Row) -> None:
    situation = in_row(row)
    assert steps.next_step(situation) == steps.next_step(situation)
    ended = end(situation)
    if ended is not None:
        after = applied(situation, ended)
        # The second one finds nothing of it any more.
        assert end(replace(after, overdue=False)) is None
        assert end(replace(after, overdue=True)) is None


@EVERY
def test_what_fails_at_a_step_for_good_is_undone_to_the_start(row: Row) -> None:
    """The step never works: the deadline passes, and its undo is followed to the end, twice."""
    situation = replace(in_row(row), overdue=True)
    item = end(situation)
    assert item is not None
    after = replace(applied(situation, item), overdue=False)
    assert after.operation is None
    assert after.instance.standing.task is Task.NONE
    (over,) = item.operations
    if row.action is A.DELETE_INSTANCE:
        assert over.state is OperationState.DONE
        assert after.instance.standing.state is State.DELETED
    else:
        assert over.state is OperationState.FAILED
        assert over.fault is not None
        assert over.fault.reason == "OPERATION_OVERDUE"
    if row.action in BEFORE:
        was = BEFORE[row.action]().instance
        assert after.instance.standing == was.standing
        assert after.instance.wanted.power is was.wanted.power
        assert after.instance.generation > situation.instance.generation
        assert isinstance(steps.next_step(after), steps.Command), "its host hears of it"
        return
    assert after.holder is None
    kept = [c for c in situation.claims if c.role is ClaimRole.LEAVING]
    assert all(kept_one in after.claims for kept_one in kept), "its owner's work stays"
    for claim in [c for c in after.claims if c not in kept]:
        assert claim.role is ClaimRole.LEAVING
        assert [c.discard for c in item.claims] == [True]
        gone = replace(seen(after.instance, 9, absent=True, power=Power.OFF), epoch=claim.epoch)
        left = applied(after, lifecycle.observed(after, gone, 9.0))
        assert list(left.claims) == kept, "confirmed once"
        again = lifecycle.observed(left, gone, 9.0)
        assert again.instance is None, "and said again it changes nothing"


@EVERY
def test_undo_and_table_agree(row: Row) -> None:
    """Where the table says that a claim leaves or a wish returns, the end of that phase does so."""
    item = end(replace(in_row(row), overdue=True))
    assert item is not None
    if row.undo is Undo.CLAIM_LEAVES:
        assert item.claims
    if row.undo is Undo.WISH_RETURNS:
        assert item.wants


def end(situation: Situation) -> Item | None:
    """What is committed for a step that ends an operation."""
    step = steps.next_step(situation)
    if isinstance(step, steps.LetGo):
        gone = lifecycle.deleted_on_lost_host(situation, 9.0)
        return gone or overdue.given_up(situation, 9.0)
    return overdue.given_up(situation, 9.0) if isinstance(step, steps.GiveUp) else None


def test_what_is_not_overdue_is_not_given_up() -> None:
    assert overdue.given_up(building(), 9.0) is None


@EVERY
def test_whatever_its_instance_looks_like_an_operation_ends_at_its_deadline(row: Row) -> None:
    """Rows that no flow leaves so: the instance is not touched, and nobody waits for ever."""
    situation = STARTS[row.action, row.phase]()
    idle = replace(situation.instance, standing=active().instance.standing)
    item = end(replace(situation, instance=idle, claims=(), overdue=True))
    assert item is not None
    (over,) = item.operations
    assert over.fault is not None
    assert over.fault.reason == "OPERATION_OVERDUE"
    assert item.instance is None


def test_the_last_failure_is_told_when_time_is_up() -> None:
    situation = building()
    absent = seen(situation.instance, absent=True, failure=("IMAGE_BROKEN", "no"), power=Power.OFF)
    again = applied(situation, lifecycle.observed(situation, absent, 3.0))
    assert again.operation is not None
    assert again.operation.last_fault is not None
    assert (again.operation.tries, again.operation.last_fault.reason) == (1, "IMAGE_BROKEN")
    item = overdue.given_up(replace(again, overdue=True), 9.0)
    assert item is not None
    assert item.operations[0].fault is not None
    assert item.operations[0].fault.metadata["cause"] == "IMAGE_BROKEN"


seconds = st.floats(min_value=1, max_value=1e6)


@given(st.builds(Deadlines, seconds, seconds, seconds, seconds), st.integers(0, 3600))
def test_every_unfinished_operation_is_dated_once_and_for_its_phase(
    deadlines: Deadlines, grace_s: int
) -> None:
    for (action, phase), start in STARTS.items():
        situation = start()
        assert situation.operation is not None
        wanted = replace(situation.instance.wanted, grace_s=grace_s)
        row = replace(situation.instance, wanted=wanted)
        item = Item(instance=row, operations=(situation.operation,))
        (dated,) = operations.dated(item, deadlines).operations
        began_s = dated.phases[-1][1]
        assert dated.deadline_at_s == pytest.approx(began_s + deadlines.of(action, phase) + grace_s)
        later = operations.dated(Item(operations=(dated,)), Deadlines(7, 7, 7, 7))
        assert later.operations == (dated,), "what is told within a phase does not move it"
        entered = operations.entered(dated, Phase.PLACING, 50.0)
        assert entered.deadline_at_s == 0, "another phase has another"
        over = operations.ended(dated, OperationState.FAILED, 60.0)
        assert operations.dated(Item(operations=(over,)), deadlines).operations == (over,)


@given(st.sampled_from(ROWS), st.booleans(), st.sampled_from(list(HostState)))
def test_whatever_its_host_is_a_phase_has_a_step_or_waits_for_its_deadline(
    row: Row, overdue_: bool, state: HostState
) -> None:
    situation = STARTS[row.action, row.phase]()
    claims = tuple(replace(c, host_state=state) for c in situation.claims)
    situation = replace(situation, claims=claims, overdue=overdue_)
    now = steps.row_now(situation)
    assert now is not None
    assert (now.when is When.OVERDUE) == overdue_
