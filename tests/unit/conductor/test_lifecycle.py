"""What becomes of an instance: each happening, and any order of happenings."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.conductor.logic import lifecycle, steps
from services.conductor.logic.rows import ClaimAct, Item, Situation
from services.domain.instance import Illegal, Power, State, Task
from services.domain.kinds import HostState
from services.domain.operation import OperationAction, OperationState, Phase
from services.runtime.ids import new_id
from tests.unit.conductor.situations import claim, instance, requested, seen


def applied(situation: Situation, item: Item | None) -> Situation:
    """The situation after the item was committed, as the store would show it."""
    if item is None:
        return situation
    claims = list(situation.claims)
    row = situation.instance
    if item.instance is not None:
        row = replace(item.instance, version=row.version + 1, revision=row.revision + 1)
    for change in item.claims:
        if change.act is ClaimAct.ADD:
            claims.append(claim(row, change.host_id, row.revision))
            row = replace(row, epoch=row.revision)
        elif change.act is ClaimAct.REMOVE:
            claims = [c for c in claims if c.epoch != change.epoch]
    operation = situation.operation
    for changed in item.operations:
        operation = None if changed.finished else changed
    return Situation(row, operation, tuple(claims))


def building() -> Situation:
    """An instance under a claim of h1 with epoch 7."""
    situation = requested(instance(version=1, revision=6))
    return applied(situation, lifecycle.claimed(situation, "h1", 2.0))


def active() -> Situation:
    """An instance that runs as wanted."""
    situation = building()
    return applied(situation, lifecycle.observed(situation, seen(situation.instance), 3.0))


def delete(situation: Situation) -> Situation:
    """The situation after its owner asked for its end."""
    operation = lifecycle.new_operation(
        new_id(),
        situation.instance,
        action=OperationAction.DELETE_INSTANCE,
        author=lifecycle.Author("me", new_id()),
        now_s=4.0,
    )
    item = lifecycle.delete_asked(situation, operation, 4.0)
    assert isinstance(item, Item)
    return applied(situation, item)


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
    operation = lifecycle.new_operation(
        new_id(),
        situation.instance,
        action=OperationAction.DELETE_INSTANCE,
        author=lifecycle.Author("me", new_id()),
        now_s=4.0,
    )
    item = lifecycle.delete_asked(situation, operation, 4.0)
    assert isinstance(item, Item)
    assert item.wants
    cancelled, new = item.operations
    assert cancelled.state is OperationState.CANCELLED
    assert cancelled.fault is not None
    assert cancelled.fault.metadata["operation_id"] == new.id
    assert item.instance is not None
    assert not item.instance.wanted.present


def test_delete_without_a_claim_is_done_at_once() -> None:
    """No host has anything of it."""
    situation = delete(requested())
    assert situation.instance.standing.state is State.DELETED
    assert situation.operation is None


def test_a_second_delete_is_illegal() -> None:
    """It is on its way out already."""
    situation = delete(active())
    operation = situation.operation
    assert operation is not None
    assert isinstance(lifecycle.delete_asked(situation, operation, 5.0), Illegal)


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


HAPPENINGS = st.lists(
    st.sampled_from(["claim", "refuse", "runs", "off", "fails", "absent", "delete", "stale"]),
    max_size=25,
)


@settings(max_examples=400)
@given(HAPPENINGS)
def test_no_order_of_happenings_breaks_an_invariant(happenings: list[str]) -> None:
    """At most one holder; a settled instance has no unfinished operation; ERROR and DELETED hold no
    claim that could still build; DELETED is for ever; a wish for absence is never taken back.
    """
    situation = requested(instance(version=1, revision=1))
    for n, happening in enumerate(happenings, start=1):
        before = situation
        situation = applied(situation, _happen(situation, happening, n))
        row = situation.instance
        assert len(situation.claims) <= 1
        assert row.version >= before.instance.version
        if before.instance.standing.state is State.DELETED:
            assert row == before.instance
        if not before.instance.wanted.present:
            assert not row.wanted.present
        if row.standing.task is Task.NONE:
            assert situation.operation is None
        else:
            assert situation.operation is not None
        if row.standing.state in (State.ERROR, State.DELETED) and row.standing.task is Task.NONE:
            assert not situation.claims
            assert steps.next_step(situation) is None


def _happen(situation: Situation, happening: str, n: int) -> Item | None:
    row = situation.instance
    epoch = situation.claims[0].epoch if situation.claims else 99
    told = replace(seen(row, n), epoch=epoch)
    if happening == "claim":
        return lifecycle.claimed(situation, f"h{n}", n)
    if happening == "refuse":
        return lifecycle.refused(situation, 3, {"up": 3}, n)
    if happening == "delete":
        operation = lifecycle.new_operation(
            new_id(),
            row,
            action=OperationAction.DELETE_INSTANCE,
            author=lifecycle.Author("me", new_id()),
            now_s=n,
        )
        item = lifecycle.delete_asked(situation, operation, n)
        return None if isinstance(item, Illegal) else item
    changes: dict[str, dict[str, object]] = {
        "runs": {},
        "off": {"power": Power.OFF},
        "fails": {"absent": True, "power": Power.OFF, "failure": ("X", "y")},
        "absent": {"absent": True, "power": Power.OFF},
        "stale": {"applied_generation": 0, "power": Power.OFF},
    }
    # The store refuses what a host says of a claim that it does not have.
    if not situation.claims:
        return None
    # A host says "absent" only of what is not wanted any more, or with a failure.
    if happening == "absent" and row.wanted.present:
        return None
    return lifecycle.observed(situation, replace(told, **changes[happening]), n)  # type: ignore[arg-type]  # fields of Seen
