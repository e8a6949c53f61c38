"""What becomes of an instance: each happening by itself."""

from __future__ import annotations

from dataclasses import replace

from services.conductor.logic import lifecycle, operations, steps
from services.conductor.logic.items import ClaimAct, Item
from services.domain.instance import Power, State
from services.domain.kinds import HostState
from services.domain.operation import OperationAction, OperationState, Phase
from services.runtime.ids import new_id
from tests.unit.conductor.situations import (
    active,
    applied,
    building,
    delete,
    instance,
    requested,
    seen,
)


def test_a_claim_makes_it_build() -> None:
    """Commit 2 adds exactly one claim and moves instance and operation together."""
    situation = requested()
    item = lifecycle.claimed(situation, "h1", 2.0)
    assert item is not None
    assert item.instance is not None
    assert item.instance.standing.state is State.BUILDING
    assert [c.act for c in item.claims] == [ClaimAct.ADD]
    assert item.operations[0].phase is Phase.BUILDING


def test_a_second_decision_changes_nothing() -> None:
    """A decision for an instance that has a holder is too late."""
    assert lifecycle.claimed(building(), "h2", 2.0) is None


def test_the_guest_of_the_applied_generation_makes_it_active() -> None:
    """Commit 3."""
    situation = active()
    assert situation.instance.standing.state is State.ACTIVE
    assert situation.operation is None


def test_an_older_generation_does_not_make_it_active() -> None:
    """A guest that runs what was wanted before is not what is wanted now."""
    situation = building()
    item = lifecycle.observed(situation, seen(situation.instance, applied_generation=0), 3.0)
    assert item.instance is None


def test_a_failed_build_goes_to_another_host_and_ends_after_three() -> None:
    """Each failure releases its claim, excludes its host and counts; the third is the last.
    MECHANICS F2.
    """
    situation = requested(instance(version=1, revision=6))
    for host_id in ("h1", "h2", "h3"):
        situation = applied(situation, lifecycle.claimed(situation, host_id, 2.0))
        holder = situation.holder
        assert holder is not None
        lost = replace(
            seen(
                situation.instance, absent=True, failure=("DISK_FULL", "no room"), power=Power.OFF
            ),
            epoch=holder.epoch,
            host_id=host_id,
        )
        situation = applied(situation, lifecycle.observed(situation, lost, 3.0))
        assert not situation.claims
    assert situation.instance.standing.state is State.ERROR
    assert situation.instance.fault.startswith("BUILD_FAILED")
    assert situation.instance.excluded_host_ids == ("h1", "h2")


def test_a_guest_that_goes_off_by_itself_is_stopped_and_not_started_again() -> None:
    """An owner's poweroff in the guest ends as STOPPED, with a new generation that wants it off.
    MECHANICS B1.
    """
    situation = active()
    item = lifecycle.observed(situation, seen(situation.instance, 2, power=Power.OFF), 5.0)
    assert item.wants
    after = applied(situation, item)
    assert after.instance.standing.state is State.STOPPED
    assert not after.instance.wanted.run
    assert after.instance.generation == situation.instance.generation + 1


def test_a_guest_that_started_and_went_off_before_it_was_seen_is_stopped() -> None:
    """Two things happened between two looks; what is seen now counts."""
    situation = building()
    after = applied(
        situation, lifecycle.observed(situation, seen(situation.instance, power=Power.OFF), 3.0)
    )
    assert after.instance.standing.state is State.STOPPED
    assert after.operation is None


def test_delete_cancels_what_is_under_way_and_wants_absence() -> None:
    """One commit: the create is CANCELLED with its cause, the wish changes. MECHANICS B4."""
    situation = building()
    operation = operations.new_operation(
        new_id(),
        situation.instance,
        action=OperationAction.DELETE_INSTANCE,
        author=operations.Author("me", new_id()),
        now_s=4.0,
    )
    item = lifecycle.delete_asked(situation, operation, 4.0)
    assert isinstance(item, Item)
    assert item.wants
    cancelled, new = item.operations
    assert cancelled.state is OperationState.CANCELLED
    assert cancelled.fault is not None
    assert cancelled.fault.reason == "SUPERSEDED_BY_DELETE"
    assert cancelled.fault.metadata["operation_id"] == new.id
    assert item.instance is not None
    assert not item.instance.wanted.present


def test_delete_without_a_claim_is_done_at_once() -> None:
    """No host has anything of it."""
    situation = delete(requested())
    assert situation.instance.standing.state is State.DELETED
    assert situation.operation is None


def test_a_second_delete_changes_nothing() -> None:
    """It is on its way out already: the flow joins that."""
    situation = delete(active())
    operation = situation.operation
    assert operation is not None
    assert lifecycle.delete_asked(situation, operation, 5.0) is None


def test_resources_return_only_with_confirmed_absence() -> None:
    """A delete keeps the claim until its host has said that nothing is left. MECHANICS C6."""
    situation = delete(active())
    assert situation.claims
    gone = seen(situation.instance, 9, absent=True, power=Power.OFF)
    situation = applied(situation, lifecycle.observed(situation, gone, 5.0))
    assert not situation.claims
    assert situation.instance.standing.state is State.DELETED


def test_a_delete_on_a_host_that_is_down_keeps_the_claim_leaving() -> None:
    """The owner has its answer, the resources wait for the host."""
    situation = delete(active())
    holder = replace(situation.claims[0], host_state=HostState.DOWN)
    situation = replace(situation, claims=(holder,))
    assert isinstance(steps.next_step(situation), steps.LetGo)
    item = lifecycle.deleted_on_lost_host(situation, 6.0)
    assert item is not None
    assert [c.act for c in item.claims] == [ClaimAct.LEAVE]
    assert item.instance is not None
    assert item.instance.standing.state is State.DELETED


def test_absence_after_a_delete_during_a_failing_build_ends_the_delete() -> None:
    """The host's failure and the owner's delete cross: DELETED, not placed again."""
    situation = delete(building())
    lost = seen(situation.instance, 3, absent=True, failure=("X", "y"), power=Power.OFF)
    situation = applied(situation, lifecycle.observed(situation, lost, 5.0))
    assert situation.instance.standing.state is State.DELETED


def test_a_host_that_has_not_looked_says_nothing_of_power() -> None:
    """Word of progress on a guest that lives must not stop it."""
    situation = active()
    told = seen(situation.instance, 2, power=Power.PENDING, applied_generation=0, progress="30 %")
    item = lifecycle.observed(situation, told, 5.0)
    assert item.instance is None
    assert not item.wants


def test_a_living_guest_that_is_gone_for_ever_is_an_error_without_a_claim() -> None:
    """Its host confirms that nothing is left: what it used up returns. MECHANICS C6."""
    situation = active()
    told = seen(situation.instance, 2, absent=True, power=Power.OFF, failure=("DISK_LOST", "burnt"))
    situation = applied(situation, lifecycle.observed(situation, told, 5.0))
    assert situation.instance.standing.state is State.ERROR
    assert situation.instance.fault == "DISK_LOST: burnt"
    assert not situation.claims
