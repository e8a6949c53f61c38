"""The action table at the conductor's logic: every action in every state and task."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from services.conductor.flows.refuse import not_now
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item
from services.conductor.logic.rows import Situation
from services.domain.errors import WrongState
from services.domain.instance import (
    Action,
    Event,
    Illegal,
    Standing,
    State,
    Task,
    after,
    allowed_actions,
    blocked_actions,
)
from services.domain.operation import OperationAction
from tests.unit.conductor.situations import POWER_OPERATIONS, active, asked, begun

EVERYTHING = tuple(Standing(state, task) for state, task in product(State, Task))
# What is accepted, written down once more by hand: state, task, actions.
ANY_TIME = {Action.DELETE, Action.UPDATE}
ACCEPTED = {
    (State.REQUESTED, Task.SCHEDULING): ANY_TIME,
    (State.BUILDING, Task.SPAWNING): ANY_TIME,
    (State.ACTIVE, Task.NONE): {
        *ANY_TIME, Action.STOP, Action.REBOOT, Action.HARD_REBOOT, Action.PAUSE, Action.SUSPEND,
    },
    (State.ACTIVE, Task.STOPPING): ANY_TIME,
    (State.ACTIVE, Task.PAUSING): ANY_TIME,
    (State.ACTIVE, Task.SUSPENDING): ANY_TIME,
    (State.STOPPED, Task.NONE): {*ANY_TIME, Action.START, Action.HARD_REBOOT},
    (State.STOPPED, Task.STARTING): ANY_TIME,
    (State.PAUSED, Task.NONE): {*ANY_TIME, Action.UNPAUSE, Action.HARD_REBOOT},
    (State.PAUSED, Task.UNPAUSING): ANY_TIME,
    (State.SUSPENDED, Task.NONE): {*ANY_TIME, Action.RESUME, Action.HARD_REBOOT},
    (State.SUSPENDED, Task.RESUMING): ANY_TIME,
    (State.ERROR, Task.NONE): ANY_TIME,
    **{
        (state, Task.REBOOTING): ANY_TIME
        for state in (State.ACTIVE, State.STOPPED, State.PAUSED, State.SUSPENDED)
    },
    **{
        (state, Task.EVACUATING): ANY_TIME
        for state in (
            State.ACTIVE, State.STOPPED, State.PAUSED, State.SUSPENDED, State.ERROR,
        )
    },
    **{(state, Task.DELETING): {Action.DELETE} for state in set(State) - {State.DELETED}},
}  # fmt: skip


def reason_of(standing: Standing) -> str:
    """Why anything else is refused: what is under way can be waited for, an end cannot."""
    waits = standing.task not in (Task.NONE, Task.DELETING)
    over = standing.state is State.DELETED
    return "OPERATION_UNDER_WAY" if waits and not over else "INVALID_INSTANCE_STATE"


def ask(situation: Situation, action: Action) -> Item | Illegal:
    """The wish as the flows decide it."""
    if action in POWER_OPERATIONS:
        return asked(situation, action)
    operation = begun(situation, OperationAction.DELETE_INSTANCE)
    if action is Action.UPDATE:
        return lifecycle.renamed(situation, "other", {}, operation)
    item = lifecycle.delete_asked(situation, operation, 5.0)
    if item is not None:
        return item
    answer = after(situation.instance.standing, Event.DELETE_ASKED)
    # Where it is legal all the same, the flow joins the removal that is under way.
    return answer if isinstance(answer, Illegal) else Item()


@pytest.mark.parametrize("action", Action, ids=lambda action: action.name)
@pytest.mark.parametrize("standing", EVERYTHING, ids=lambda s: f"{s.state.name}-{s.task.name}")
def test_every_action_is_accepted_or_refused_with_its_code_and_reason(
    standing: Standing, action: Action
) -> None:
    """And what an instance shows of itself says the same."""
    situation = active()
    situation = replace(situation, instance=replace(situation.instance, standing=standing))
    answer = ask(situation, action)
    if action in ACCEPTED.get((standing.state, standing.task), set()):
        assert isinstance(answer, Item)
        assert action in allowed_actions(standing)
        return
    assert isinstance(answer, Illegal)
    error = not_now(standing, action, answer)
    assert isinstance(error, WrongState)
    assert error.reason == reason_of(standing)
    assert error.metadata == {
        "state": standing.state.name,
        "task": standing.task.name,
        "action": action.name,
    }
    assert [b.why for b in blocked_actions(standing) if b.action is action] == [answer]
