"""Whole lives of instances: any order of wishes, decisions and observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.conductor.logic import lifecycle, steps
from services.conductor.logic.items import Item
from services.conductor.logic.rows import Situation
from services.domain.instance import STANDINGS, Action, Illegal, Power, State, Task
from services.domain.kinds import HostState
from services.domain.operation import OperationAction
from tests.examples import examples
from tests.unit.conductor.situations import applied, asked, begun, instance, requested, seen

# What a holder can say, as fields of Seen; `behind` says of how many generations it has not heard.
SAYINGS: dict[str, dict[str, object]] = {
    "runs": {},
    "off": {"power": Power.OFF},
    "crashed": {"power": Power.CRASHED},
    "pending": {"power": Power.PENDING},
    "fails": {"absent": True, "power": Power.OFF, "failure": ("X", "y")},
    "absent": {"absent": True, "power": Power.OFF},
    "late and off": {"applied_generation": 0, "power": Power.OFF},
    "late and runs": {"applied_generation": 0},
    "cannot, off": {"applied_generation": 0, "power": Power.OFF, "failure": ("X", "y")},
    "cannot, runs": {"applied_generation": 0, "failure": ("X", "y")},
    "progress": {"applied_generation": 0, "power": Power.PENDING, "progress": "half"},
}


def wish(action: Action) -> Callable[[Situation, int], Item | Illegal | None]:
    return lambda situation, n: asked(situation, action, n)


def delete(situation: Situation, n: int) -> Item | None:
    operation = begun(situation, OperationAction.DELETE_INSTANCE, n)
    return lifecycle.delete_asked(situation, operation, n)


def update(situation: Situation, n: int) -> Item | Illegal:
    # Its operation is done with its acceptance, so that it is none of the instance's.
    operation = begun(situation, OperationAction.DELETE_INSTANCE, n)
    item = lifecycle.renamed(situation, f"n{n}", {}, operation)
    return item if isinstance(item, Illegal) else replace(item, operations=())


DEEDS: dict[str, Callable[[Situation, int], Item | Illegal | None]] = {
    "claim": lambda situation, n: lifecycle.claimed(situation, f"h{n}", n),
    "refuse": lambda situation, n: lifecycle.refused(situation, 3, {"up": 3}, n),
    "start": wish(Action.START),
    "stop": wish(Action.STOP),
    "reboot": wish(Action.REBOOT),
    "delete": delete,
    "update": update,
    "cancel": lifecycle.cancel_asked,
    "lose": lifecycle.deleted_on_lost_host,
}
HAPPENINGS = st.lists(st.sampled_from([*DEEDS, *SAYINGS]), max_size=40)


def happen(situation: Situation, happening: str, n: int) -> Item | None:
    """What is committed then; None where the store or a flow would refuse it."""
    if happening == "lose":
        # Only a delete whose host is DOWN is let go.
        down = [replace(c, host_state=HostState.DOWN) for c in situation.claims]
        if not isinstance(steps.next_step(replace(situation, claims=tuple(down))), steps.LetGo):
            return None
    if happening in DEEDS:
        item = DEEDS[happening](situation, n)
        return None if isinstance(item, Illegal) else item
    if not situation.claims:
        return None
    # A host says "absent" only of what is not wanted any more, or with a failure.
    if happening == "absent" and situation.instance.wanted.present:
        return None
    told = replace(seen(situation.instance, n), epoch=situation.claims[0].epoch)
    told = replace(told, **SAYINGS[happening])  # type: ignore[arg-type]  # fields of Seen
    return lifecycle.observed(situation, told, n)


def check(before: Situation, item: Item | None, after: Situation) -> None:
    """What holds after every happening."""
    was, row = before.instance, after.instance
    assert row.standing in STANDINGS
    assert len(after.claims) <= 1
    assert row.generation >= was.generation
    assert row.wanted.boot >= was.wanted.boot
    assert (row.generation != was.generation) == (item is not None and item.wants)
    if row.wanted != was.wanted:
        assert row.generation > was.generation
    if was.standing.state is State.DELETED:
        assert row == was
    if not was.wanted.present:
        assert not row.wanted.present
    assert (row.standing.task is Task.NONE) == (after.operation is None)
    if after.operation is not None:
        assert steps.next_step(after) is not None, "what is under way has a step"
    if row.standing.state in (State.ERROR, State.DELETED) and row.standing.task is Task.NONE:
        assert after.holder is None
        assert steps.next_step(after) is None


def finish(situation: Situation) -> Situation:
    """What is under way, done by a scheduler and a host that do as they are told."""
    for n in range(100, 110):
        step = steps.next_step(situation)
        if situation.operation is None:
            return situation
        if isinstance(step, steps.Place):
            item: Item | None = lifecycle.claimed(situation, f"h{n}", n)
        else:
            assert isinstance(step, steps.Command)
            wanted = step.instance.wanted
            power = Power.RUNNING if wanted.present and wanted.run else Power.OFF
            told = seen(step.instance, n, power=power, absent=not wanted.present)
            item = lifecycle.observed(situation, replace(told, epoch=step.claim.epoch), n)
        situation = applied(situation, item)
    raise AssertionError("it does not end")


@settings(max_examples=examples(1500))
@given(HAPPENINGS)
def test_no_order_of_happenings_leaves_the_table_or_an_operation_behind(
    happenings: list[str],
) -> None:
    """At most one claim; a settled instance has no unfinished operation and an unfinished one has a
    step; generation and boots only grow, and only with a wish; ERROR and DELETED hold no claim;
    DELETED is for ever; a wish for absence is never taken back; and everything ends.
    """
    situation = requested(instance(version=1, revision=1))
    for n, happening in enumerate(happenings, start=1):
        item = happen(situation, happening, n)
        following = applied(situation, item)
        check(situation, item, following)
        situation = following
    settled = finish(situation)
    assert settled.instance.standing.task is Task.NONE
    if settled.instance.standing.state is State.ACTIVE:
        assert settled.instance.wanted.run
    if settled.instance.standing.state is State.STOPPED:
        assert not settled.instance.wanted.run
