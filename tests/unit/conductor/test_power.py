"""The power switch: what is asked of it, what its host sees, and all that can come between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.conductor.logic import lifecycle, steps
from services.conductor.logic.items import Item
from services.conductor.logic.rows import Situation
from services.conductor.logic.step_table import ROWS, Limit
from services.domain.instance import (
    SWITCHING_TASKS,
    Action,
    Power,
    Standing,
    State,
    Task,
)
from services.domain.kinds import HostState
from services.domain.operation import OperationState
from services.domain.trace import Trace
from tests.unit.conductor.situations import (
    applied,
    asked,
    building,
    delete,
    ready,
    seen,
    switching,
)

ENDS = {
    Action.START: (State.ACTIVE, Power.RUNNING),
    Action.STOP: (State.STOPPED, Power.OFF),
    Action.REBOOT: (State.ACTIVE, Power.RUNNING),
    Action.HARD_REBOOT: (State.ACTIVE, Power.RUNNING),
    Action.PAUSE: (State.PAUSED, Power.PAUSED),
    Action.UNPAUSE: (State.ACTIVE, Power.RUNNING),
    Action.SUSPEND: (State.SUSPENDED, Power.SUSPENDED),
    Action.RESUME: (State.ACTIVE, Power.RUNNING),
}
POWER = tuple(ENDS)
REBOOTS = (Action.REBOOT, Action.HARD_REBOOT)
RESTS = {
    Power.RUNNING: State.ACTIVE,
    Power.OFF: State.STOPPED,
    Power.CRASHED: State.STOPPED,
    Power.PAUSED: State.PAUSED,
    Power.SUSPENDED: State.SUSPENDED,
}


def look(situation: Situation, sequence: int = 9, **changes: object) -> Item:
    """What is committed when the holder sees this."""
    return lifecycle.observed(situation, seen(situation.instance, sequence, **changes), 9.0)


@pytest.mark.parametrize("action", POWER)
def test_what_is_asked_is_another_wish_and_a_step(action: Action) -> None:
    """The generation grows by one, the state stays, the task says what is under way."""
    before = ready(action)
    item = asked(before, action, 30)
    assert isinstance(item, Item)
    assert item.wants
    row = item.instance
    assert row is not None
    assert row.generation == before.instance.generation + 1
    assert row.standing.state is before.instance.standing.state
    assert row.standing.task in SWITCHING_TASKS
    assert row.wanted.power is ENDS[action][1]
    assert row.wanted.boot == before.instance.wanted.boot + (action in REBOOTS)
    assert row.wanted.grace_s == 30
    assert item.operations[0].phase.name == row.standing.task.name
    step = steps.next_step(applied(before, item))
    assert isinstance(step, steps.Command)


@pytest.mark.parametrize("action", POWER)
def test_the_applied_wish_ends_the_operation(action: Action) -> None:
    situation = switching(action)
    state, power = ENDS[action]
    item = look(situation, power=power)
    assert [o.state for o in item.operations] == [OperationState.DONE]
    after = applied(situation, item)
    assert (after.instance.standing.state, after.instance.standing.task) == (state, Task.NONE)
    assert after.instance.power is power
    assert after.instance.generation == situation.instance.generation
    assert not item.wants


@pytest.mark.parametrize("action", POWER)
def test_the_right_power_before_the_wish_is_applied_ends_nothing(action: Action) -> None:
    """A guest that runs is not yet a guest that was booted anew, and one that went off by itself
    while it is asked to is still to be told so by its host.
    """
    situation = switching(action)
    older = situation.instance.generation - 1
    item = look(situation, applied_generation=older, power=ENDS[action][1])
    assert not item.operations
    assert not item.wants
    if item.instance is not None:
        assert item.instance.standing == situation.instance.standing


def test_a_guest_that_goes_off_during_a_soft_reboot_is_only_on_its_way() -> None:
    """Its power is shown, the wish to run stands, and it ends ACTIVE when it runs again."""
    situation = switching(Action.REBOOT, 60)
    older = situation.instance.generation - 1
    item = look(situation, 5, applied_generation=older, power=Power.OFF)
    assert item.instance is not None
    assert item.instance.power is Power.OFF
    assert not item.wants
    situation = applied(situation, item)
    assert situation.instance.standing.task is Task.REBOOTING
    assert situation.instance.wanted.run
    assert isinstance(steps.next_step(situation), steps.Command)
    situation = applied(situation, look(situation, 6))
    assert situation.instance.standing.state is State.ACTIVE
    assert situation.operation is None


@pytest.mark.parametrize("action", POWER)
def test_a_guest_that_changed_by_itself_after_the_wish_was_applied_is_as_seen(
    action: Action,
) -> None:
    """Started, and off again; stopped, and on again: the operation is DONE, the wish follows."""
    situation = switching(action)
    contrary = Power.CRASHED if ENDS[action][1] is Power.RUNNING else Power.RUNNING
    item = look(situation, power=contrary)
    assert [o.state for o in item.operations] == [OperationState.DONE]
    assert item.wants
    after = applied(situation, item).instance
    assert after.standing.state is RESTS[contrary]
    assert after.wanted.run == (contrary is Power.RUNNING)
    assert after.generation == situation.instance.generation + 1
    assert after.power is contrary


@pytest.mark.parametrize("action", POWER)
@pytest.mark.parametrize("power", Power)
def test_a_failure_ends_the_operation_with_the_hosts_reason_and_the_wish_follows_what_is(
    action: Action, power: Power
) -> None:
    situation = switching(action)
    before = situation.instance
    item = look(
        situation,
        applied_generation=before.generation - 1,
        power=power,
        failure=("HYPERVISOR_FAILED", "no"),
        failed_generation=before.generation,
    )
    (failed,) = item.operations
    assert failed.state is OperationState.FAILED
    assert failed.fault is not None
    assert failed.fault.reason == "HYPERVISOR_FAILED"
    assert item.wants
    row = applied(situation, item).instance
    # A host that has not looked leaves what was known.
    left = before.power if power is Power.PENDING else power
    assert row.standing == Standing(RESTS[left], Task.NONE)
    assert row.wanted.power is (Power.OFF if left is Power.CRASHED else left)
    assert row.wanted.boot == before.wanted.boot
    assert row.generation == before.generation + 1


def test_a_failure_of_an_older_wish_fails_nothing() -> None:
    """The host repeats what it said of the wish before; the present one is under way."""
    situation = switching(Action.START)
    item = look(
        situation,
        applied_generation=0,
        power=Power.OFF,
        failure=("OLD", "no"),
        failed_generation=situation.instance.generation - 1,
    )
    assert not item.operations
    assert item.instance is None


def test_a_host_that_does_not_say_which_wish_failed_means_the_present_one() -> None:
    situation = switching(Action.START)
    item = look(situation, applied_generation=0, power=Power.OFF, failure=("X", "no"))
    assert [o.state for o in item.operations] == [OperationState.FAILED]


@pytest.mark.parametrize("action", POWER)
def test_a_guest_that_is_lost_in_the_middle_is_an_error_and_its_claim_returns(
    action: Action,
) -> None:
    situation = switching(action)
    item = look(situation, absent=True, power=Power.OFF, failure=("DISK_LOST", "burnt"))
    assert [o.state for o in item.operations] == [OperationState.FAILED]
    assert item.operations[0].fault is not None
    assert item.operations[0].fault.reason == "DISK_LOST"
    after = applied(situation, item)
    assert after.instance.standing.state is State.ERROR
    assert not after.claims
    assert steps.next_step(after) is None


@pytest.mark.parametrize("action", POWER)
def test_a_delete_takes_the_place_of_what_is_under_way(action: Action) -> None:
    """It is CANCELLED with its cause; nothing that the host says of power brings it back."""
    situation = delete(switching(action, 3600))
    row = situation.instance
    assert row.standing.task is Task.DELETING
    assert not row.wanted.present
    assert row.wanted.grace_s == 0
    assert isinstance(steps.next_step(situation), steps.Command)
    told = applied(situation, look(situation, 7, power=ENDS[action][1], applied_generation=0))
    assert told.instance.standing.task is Task.DELETING
    gone = applied(told, look(told, 8, absent=True, power=Power.OFF))
    assert gone.instance.standing.state is State.DELETED


@pytest.mark.parametrize("action", POWER)
def test_while_the_host_is_down_nothing_is_sent_and_nothing_ends(action: Action) -> None:
    situation = switching(action)
    down = replace(situation.claims[0], host_state=HostState.DOWN)
    assert steps.next_step(replace(situation, claims=(down,))) is None
    assert isinstance(steps.next_step(situation), steps.Command)


@pytest.mark.parametrize("action", POWER)
def test_word_of_progress_is_shown_once(action: Action) -> None:
    situation = switching(action)
    older = situation.instance.generation - 1
    item = look(situation, applied_generation=older, power=Power.PENDING, progress="asked it")
    assert item.operations[0].progress == "asked it"
    again = look(
        applied(situation, item), applied_generation=older, power=Power.PENDING, progress="asked it"
    )
    assert not again.operations


def test_a_step_carries_the_trace_of_its_operation() -> None:
    """So that scheduler and host can be found in logs by the call that began it."""
    trace = Trace("corr", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    for situation in (building(), switching(Action.STOP)):
        assert situation.operation is not None
        traced = replace(situation, operation=replace(situation.operation, trace=trace))
        step = steps.next_step(traced)
        assert isinstance(step, steps.Command)
        assert step.trace == trace


def test_every_phase_of_power_is_a_step() -> None:
    switched = {row.phase for row in ROWS if row.limit is Limit.SWITCHING}
    assert {task.name for task in SWITCHING_TASKS} == {phase.name for phase in switched}
