"""Which happenings leave a step to do, and so a look at the instance."""

from __future__ import annotations

from dataclasses import replace

from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item
from services.conductor.logic.rows import Situation
from services.conductor.logic.steps import leaves_work
from services.domain.instance import Power
from tests.unit.conductor.situations import claim, instance, requested, seen


def building() -> Situation:
    """An instance that its host builds."""
    begun = requested(instance(version=1, revision=1))
    item = lifecycle.claimed(begun, "h1", 2.0)
    assert item is not None
    assert item.instance is not None
    row = replace(item.instance, epoch=7)
    return Situation(row, item.operations[0], (claim(row),))


def test_a_host_that_reports_it_running_leaves_nothing_to_do() -> None:
    situation = building()
    item = lifecycle.observed(situation, seen(situation.instance), 3.0)
    assert item.instance is not None
    assert not leaves_work(item)


def test_a_lost_build_is_looked_at_again() -> None:
    situation = building()
    lost = seen(situation.instance, absent=True, applied_generation=0, power=Power.OFF)
    assert leaves_work(lifecycle.observed(situation, lost, 3.0))


def test_a_guest_that_switched_itself_off_changes_what_is_wanted() -> None:
    situation = building()
    started = lifecycle.observed(situation, seen(situation.instance), 3.0)
    assert started.instance is not None
    running = Situation(started.instance, None, (claim(started.instance),))
    off = seen(started.instance, 2, power=Power.OFF)
    assert leaves_work(lifecycle.observed(running, off, 4.0))


def test_the_number_of_an_observation_alone_leaves_nothing_to_do() -> None:
    assert not leaves_work(Item())
