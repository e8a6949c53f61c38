"""From any state of a host the plan's steps end in what is wanted, and touch nothing else."""

import itertools
from dataclasses import replace

import pytest

from services.compute.logic.guest import NO_NOTES, Claim, Guest, Identity, Notes
from services.compute.logic.observation import Failure, Past, observation_of
from services.compute.logic.plan import Moment, Refusal, Step, StepKind, Wait, next_step
from services.compute.logic.wanted import Wanted
from services.domain.instance import ALIVE, Power
from tests.unit.compute.test_wanted import SPEC

FAILURE = Failure("BROKEN", "it broke")
AT_ONCE = Moment(100.0, graceful_stop=True)
TURNED_FROM = {StepKind.UNPAUSE: Power.PAUSED, StepKind.RESUME: Power.SUSPENDED}


def wish(
    *,
    epoch: int = 5,
    generation: int = 2,
    present: bool = True,
    power: Power = Power.RUNNING,
    boot: int = 1,
) -> Wanted:
    spec = replace(SPEC, present=present, power=power, boot=boot)
    return Wanted(Claim("a", epoch), generation, 10, spec)


def guest(
    *,
    epoch: int = 5,
    prepared: bool = True,
    power: Power = Power.OFF,
    applied: int = 0,
    notes: Notes = NO_NOTES,
) -> Guest:
    run = "run" if power in (*ALIVE, Power.SUSPENDED) else ""
    return Guest(Identity("c", "a", epoch), prepared, power, applied, run, notes)


def after(  # noqa: C901, PLR0911  # a line for each kind of step
    step: Step | Refusal, guests: list[Guest], past: Past
) -> list[Guest]:
    """What a driver makes of a step."""
    claim = step.wanted.claim
    if isinstance(step, Refusal):
        past.failures[claim] = step.failure
        return guests
    found = next((g for g in guests if g.identity.claim == claim), None)
    others = [g for g in guests if g.identity.claim != claim]
    match step.kind:
        case StepKind.PREPARE:
            return [*others, guest(epoch=claim.epoch)]
        case StepKind.ERASE:
            assert found is None or found.power not in ALIVE, "a guest in memory was erased"
            return others
        case StepKind.START:
            assert found is not None
            assert found.prepared
            run = f"run {step.wanted.generation} {found.notes}"
            return [*others, replace(found, power=Power.RUNNING, incarnation=run)]
        case StepKind.UNPAUSE | StepKind.RESUME:
            assert found is not None
            assert found.power is TURNED_FROM[step.kind]
            run = found.incarnation if step.kind is StepKind.UNPAUSE else "resumed"
            return [*others, replace(found, power=Power.RUNNING, incarnation=run)]
        case StepKind.PAUSE:
            assert found is not None
            assert found.power is Power.RUNNING
            return [*others, replace(found, power=Power.PAUSED)]
        case StepKind.SUSPEND:
            assert found is not None
            assert found.power in ALIVE
            return [*others, replace(found, power=Power.SUSPENDED, incarnation="kept")]
        case StepKind.STOP | StepKind.ASK:
            assert found is not None
            return [*others, replace(found, power=Power.OFF, incarnation="")]
        case StepKind.NOTE:
            assert found is not None
            assert step.notes is not None
            return [*others, replace(found, notes=step.notes)]
        case StepKind.MARK_APPLIED:
            assert found is not None
            return [*others, replace(found, applied_generation=step.wanted.generation)]


def settled(wanted: list[Wanted], guests: list[Guest], past: Past) -> list[Guest]:
    """What the steps end in."""
    for _ in range(12):
        past.note(guests)
        step = next_step(wanted, guests, past=past, moment=AT_ONCE)
        if step is None:
            return guests
        assert not isinstance(step, Wait), "every guest of these tests hears"
        guests = after(step, guests, past)
    raise AssertionError("the plan does not settle")


FOUND = [None] + [
    guest(epoch=5, prepared=prepared, power=power, applied=applied)
    for prepared, power, applied in itertools.product((False, True), Power, (0, 1, 2))
    if prepared or applied == 0
]
FOUND += [
    guest(power=power, applied=applied, notes=notes)
    for power, applied in itertools.product((Power.OFF, Power.RUNNING), (1, 2))
    for notes in (Notes(2, "run"), Notes(2, "before"), Notes(3, ""))
]
OTHERS = [None] + [guest(epoch=e, power=p) for e in (3, 9) for p in (Power.OFF, Power.RUNNING)]
WISHES = [
    [],
    *([wish(power=power)] for power in (Power.RUNNING, Power.OFF, Power.PAUSED, Power.SUSPENDED)),
    [wish(present=False, power=Power.OFF)],
    [wish(boot=3)],
    [wish(boot=3, power=Power.OFF)],
    *(
        [wish(present=present), wish(epoch=9, present=present_next)]
        for present, present_next in itertools.product((True, False), repeat=2)
    ),
]


@pytest.mark.parametrize("wanted", WISHES, ids=lambda wishes: f"{len(wishes)} wishes")
def test_every_state_settles_in_what_is_wanted(wanted):
    for found, other, failed in itertools.product(FOUND, OTHERS, (False, True)):
        check_settles(wanted, found, other, failed)


def check_settles(wanted, found, other, failed):
    guests = [g for g in (found, other) if g is not None]
    past = Past(failures={Claim("a", 5): FAILURE} if failed else {})
    end = settled(wanted, list(guests), past)
    claims = {w.claim for w in wanted}
    strangers = [g for g in guests if g.identity.claim not in claims]
    newest = max((w.claim.epoch for w in wanted), default=0)
    # One that a newer claim has overtaken is stopped, never erased; any other is left alone.
    strangers = [
        replace(g, power=Power.OFF, incarnation="")
        if g.identity.epoch < newest and g.power in ALIVE
        else g
        for g in strangers
    ]
    assert [g for g in end if g.identity.claim not in claims] == strangers
    for w in wanted:
        now = [g for g in end if g.identity.claim == w.claim]
        seen = observation_of(w, end, past)
        if not w.spec.present or w.claim in past.failures:
            assert now == []
            assert seen is not None
            assert seen.absent
            assert seen.failure == past.failures.get(w.claim)
        elif not strangers and sum(w.spec.present for w in wanted) == 1:
            assert [g.applied_generation for g in now] == [w.generation]
            if found is None or found.applied_generation < w.generation:
                assert now[0].power is rests(w, found)


def rests(wanted: Wanted, found: Guest | None) -> Power:
    """What the guest is in the end: one that is off cannot be frozen, nor its memory kept."""
    before = found.power if found is not None and found.prepared else Power.OFF
    match wanted.spec.power:
        case Power.PAUSED:
            return Power.PAUSED if before is Power.RUNNING else before
        case Power.SUSPENDED:
            return Power.SUSPENDED if before in ALIVE else before
        case Power.OFF:
            return before if before in (Power.PENDING, Power.CRASHED) else Power.OFF
    return wanted.spec.power


def test_a_new_guest_is_prepared_started_and_marked():
    past = Past()
    guests: list[Guest] = []
    kinds = []
    while (step := next_step([wish()], guests, past=past, moment=AT_ONCE)) is not None:
        assert isinstance(step, Step)
        kinds.append(step.kind)
        guests = after(step, guests, past)
    assert kinds == [StepKind.PREPARE, StepKind.START, StepKind.MARK_APPLIED]
    seen = observation_of(wish(), guests, past)
    assert seen is not None
    assert (seen.applied_generation, seen.power) == (2, Power.RUNNING)


def test_nothing_is_said_of_a_build_under_way():
    for found in ([], [guest(prepared=False)], [guest()], [guest(power=Power.RUNNING)]):
        assert observation_of(wish(), found, Past()) is None


@pytest.mark.parametrize("power", Power)
def test_the_power_of_an_applied_guest_is_told_and_not_changed(power):
    found = [guest(power=power, applied=2)]
    assert next_step([wish()], found, past=Past(), moment=AT_ONCE) is None
    seen = observation_of(wish(), found, Past())
    assert seen is not None
    assert (seen.applied_generation, seen.power, seen.absent) == (2, power, False)


def test_a_guest_that_was_applied_and_is_gone_is_told_and_not_made_again():
    past = Past(applied={Claim("a", 5): 1})
    assert next_step([wish()], [], past=past, moment=AT_ONCE) is None
    seen = observation_of(wish(), [], past)
    assert seen is not None
    assert (seen.applied_generation, seen.power, seen.absent) == (1, Power.CRASHED, False)
    assert seen.failure is not None, "a wish that came later can never be followed"
    assert (seen.failure.reason, seen.failure.generation) == ("GUEST_LOST", 2)
    current = observation_of(wish(), [], Past(applied={Claim("a", 5): 2}))
    assert current is not None
    assert current.failure is not None, "it is told that it is gone, not that it crashed"


def test_a_guest_that_another_agent_made_and_that_is_gone_is_told_and_not_made_again():
    made = replace(wish(), built=True)
    assert next_step([made], [], past=Past(), moment=AT_ONCE) is None
    seen = observation_of(made, [], Past())
    assert seen is not None
    assert (seen.applied_generation, seen.power, seen.absent) == (0, Power.CRASHED, False)
    assert seen.failure is not None
    assert seen.failure.reason == "GUEST_LOST"


def test_a_stranger_in_the_way_refuses_the_build_and_stays():
    stranger = guest(epoch=3, power=Power.OFF)
    step = next_step([wish()], [stranger], past=Past(), moment=AT_ONCE)
    assert isinstance(step, Refusal)
    assert step.failure.reason == "GUEST_IN_THE_WAY"
    assert not any(c.isdigit() for c in step.failure.message), "an epoch is told to a tenant"


def test_a_build_waits_for_the_older_claim_to_leave():
    older = wish(epoch=3)
    found = [guest(epoch=3, power=Power.RUNNING, applied=2)]
    assert next_step([older, wish(epoch=5)], found, past=Past(), moment=AT_ONCE) is None
    leaving = [wish(epoch=3, present=False), wish(epoch=5)]
    step = next_step(leaving, found, past=Past(), moment=AT_ONCE)
    assert isinstance(step, Step)
    assert (step.kind, step.wanted.claim.epoch) == (StepKind.STOP, 3)


def test_a_guest_that_has_lived_is_never_refused():
    past = Past(applied={Claim("a", 5): 1})
    found = [guest(epoch=3), guest(epoch=5, applied=1)]
    assert next_step([wish()], found, past=past, moment=AT_ONCE) is None


def test_what_is_kept_of_the_past_is_what_can_still_be_wanted():
    past = Past({Claim("a", 5): FAILURE, Claim("b", 6): FAILURE}, {Claim("a", 5): 1})
    past.missed[Claim("a", 5)] = FAILURE
    past.asked[Claim("a", 5)] = ("run", 1.0)
    past.keep([Claim("b", 6)])
    assert past == Past({Claim("b", 6): FAILURE}, {})
