"""Stop, start and reboot: whatever dies in between, a boot is neither lost nor doubled, and a guest
has its whole grace and no more.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.compute.logic.guest import NO_NOTES, Claim, Guest, Identity, Notes
from services.compute.logic.observation import Failure, Past, observation_of
from services.compute.logic.plan import ASK_AGAIN_S, Moment, Step, StepKind, Wait, next_step
from services.compute.logic.wanted import Wanted
from services.domain.instance import ALIVE, Power
from tests.examples import examples
from tests.unit.compute.test_wanted import SPEC

CLAIM = Claim("a", 5)
STEPS_MAX = 400


def wish(
    *, power: Power = Power.RUNNING, boot: int = 1, grace_s: int = 0, generation: int = 3
) -> Wanted:
    return Wanted(CLAIM, generation, 10, replace(SPEC, power=power, boot=boot, grace_s=grace_s))


@dataclass
class World:
    """A guest that ran when generation 2 was applied, its hypervisor, and agent after agent."""

    hears: bool = True
    graceful_stop: bool = True
    now_s: float = 1000.0
    power: Power = Power.RUNNING
    starts: int = 1
    suspended: int = 0
    applied: int = 2
    notes: Notes = NO_NOTES
    past: Past = field(default_factory=Past)
    taken: list[tuple[StepKind, float]] = field(default_factory=list)

    def guest(self) -> Guest:
        run = "" if self.power is Power.OFF else str(self.starts)
        identity = Identity("c", *CLAIM)
        return Guest(identity, True, self.power, self.applied, run, self.notes)

    def planned(self, wanted: Wanted) -> Step | Wait | None:
        self.past.note([self.guest()])
        moment = Moment(self.now_s, self.graceful_stop)
        step = next_step([wanted], [self.guest()], past=self.past, moment=moment)
        assert step is None or isinstance(step, Step | Wait)
        return step

    def take(self, step: Step) -> None:  # noqa: C901  # a line for each kind of step
        self.taken.append((step.kind, self.now_s))
        match step.kind:
            case StepKind.NOTE:
                assert step.notes is not None
                self.notes = step.notes
            case StepKind.START:
                assert self.power is Power.OFF
                self.power, self.starts = Power.RUNNING, self.starts + 1
            case StepKind.PAUSE:
                assert self.power is Power.RUNNING
                self.power = Power.PAUSED
            case StepKind.UNPAUSE:
                assert self.power is Power.PAUSED
                self.power = Power.RUNNING
            case StepKind.SUSPEND:
                assert self.power in ALIVE
                self.power, self.suspended = Power.SUSPENDED, self.suspended + 1
            case StepKind.RESUME:
                assert self.power is Power.SUSPENDED
                self.power = Power.RUNNING
            case StepKind.ASK:
                assert self.power is Power.RUNNING, "a guest that stands still does not hear"
                self.past.asked[CLAIM] = (self.guest().incarnation, self.now_s)
                if self.hears:
                    self.power = Power.OFF
            case StepKind.STOP:
                self.power = Power.OFF
            case StepKind.MARK_APPLIED:
                self.applied = step.wanted.generation
            case _:
                raise AssertionError(f"{step.kind} of a guest that shall stay")

    def die(self) -> None:
        """The agent is killed: what is not beside the guest is forgotten."""
        self.past = Past()

    def settle(self, wanted: Wanted) -> None:
        for _ in range(STEPS_MAX):
            step = self.planned(wanted)
            if step is None:
                return
            if isinstance(step, Wait):
                assert step.wait_s > 0
                self.now_s += step.wait_s
            else:
                self.take(step)
        raise AssertionError("the plan does not settle")

    def kinds(self) -> list[StepKind]:
        return [kind for kind, _ in self.taken]


LIVES = st.lists(st.sampled_from(["step", "step", "die", "step and die", "wait"]), max_size=30)
GRACES = st.sampled_from([0, 1, 7, 60])


def live(world: World, wanted: Wanted, events: list[str]) -> None:
    """Agents that live and die by these events; the last one lives on."""
    for event in events:
        step = world.planned(wanted)
        if isinstance(step, Step) and event in ("step", "step and die"):
            world.take(step)
        if event == "wait":
            world.now_s += 0.7
        if "die" in event:
            world.die()
    world.settle(wanted)


@settings(max_examples=examples(400), deadline=None)
@given(LIVES, GRACES, st.booleans(), st.booleans())
def test_a_reboot_is_one_start_whatever_dies_in_between(events, grace_s, hears, graceful):
    world = World(hears=hears, graceful_stop=graceful)
    live(world, wish(boot=2, grace_s=grace_s), events)
    assert (world.power, world.starts, world.applied) == (Power.RUNNING, 2, 3)
    again = wish(boot=3, grace_s=grace_s, generation=4)
    live(world, again, events)
    assert (world.power, world.starts, world.applied) == (Power.RUNNING, 3, 4)


@settings(max_examples=examples(400), deadline=None)
@given(LIVES, st.sampled_from([1, 7, 60]), st.booleans())
def test_a_guest_has_its_whole_grace_and_no_more_whatever_dies_in_between(events, grace_s, hears):
    world = World(hears=hears)
    live(world, wish(power=Power.OFF, grace_s=grace_s), events)
    assert (world.power, world.starts, world.applied) == (Power.OFF, 1, 3)
    noted_s = next(at_s for kind, at_s in world.taken if kind is StepKind.NOTE)
    plugs = [at_s for kind, at_s in world.taken if kind is StepKind.STOP]
    if hears and not plugs:
        assert StepKind.ASK in world.kinds()
    else:
        # A life of waiting agents may use the grace up before one asks.
        assert plugs[0] >= noted_s + grace_s
    assert sum(kind is StepKind.NOTE for kind in world.kinds()) == 1
    if not hears and "die" not in " ".join(events) and "wait" not in events:
        assert plugs == [noted_s + grace_s]


@settings(max_examples=examples(200), deadline=None)
@given(LIVES, GRACES, st.booleans())
def test_whatever_is_wanted_one_after_another_is_what_is_at_last(events, grace_s, hears):
    world = World(hears=hears)
    wishes = [(False, 1), (True, 1), (True, 2), (False, 2), (False, 3), (True, 3)]
    starts = 1
    for generation, (run, boot) in enumerate(wishes, start=3):
        power = Power.RUNNING if run else Power.OFF
        live(world, wish(power=power, boot=boot, grace_s=grace_s, generation=generation), events)
        starts += run
        assert (world.power is Power.RUNNING) == run
        assert (world.starts, world.applied) == (starts, generation)


@settings(max_examples=examples(400), deadline=None)
@given(LIVES, st.sampled_from([Power.PAUSED, Power.SUSPENDED]), st.booleans())
def test_what_stands_still_goes_on_in_the_same_boot_and_is_unplugged_for_another(
    events, still, reboots
):
    world = World()
    live(world, wish(power=still), events)
    assert (world.power, world.starts, world.applied) == (still, 1, 3)
    live(world, wish(boot=1 + reboots, generation=4, grace_s=60), events)
    assert (world.power, world.starts, world.applied) == (Power.RUNNING, 1 + reboots, 4)
    assert world.suspended == (still is Power.SUSPENDED)
    assert (StepKind.STOP in world.kinds()) == reboots
    assert StepKind.ASK not in world.kinds()


@settings(max_examples=examples(100), deadline=None)
@given(LIVES, st.sampled_from([Power.PAUSED, Power.SUSPENDED]))
def test_what_is_off_is_not_switched_on_to_stand_still(events, still):
    world = World(power=Power.OFF)
    live(world, wish(power=still), events)
    assert (world.power, world.applied, world.kinds()) == (
        Power.OFF,
        3,
        [StepKind.MARK_APPLIED],
    )


def test_a_guest_without_grace_or_whose_driver_cannot_ask_is_switched_off_at_once():
    for world, grace_s in ((World(), 0), (World(graceful_stop=False), 60)):
        world.settle(wish(power=Power.OFF, grace_s=grace_s))
        assert world.kinds() == [StepKind.STOP, StepKind.MARK_APPLIED]


def test_a_guest_that_hears_is_noted_then_asked_and_never_unplugged():
    world = World()
    world.settle(wish(power=Power.OFF, grace_s=60))
    assert world.kinds() == [StepKind.NOTE, StepKind.ASK, StepKind.MARK_APPLIED]


def test_a_deaf_guest_is_asked_again_and_again_until_its_grace_is_over():
    world = World(hears=False)
    world.settle(wish(power=Power.OFF, grace_s=8))
    asked = [at_s for kind, at_s in world.taken if kind is StepKind.ASK]
    assert asked == [1000.0, 1000.0 + ASK_AGAIN_S, 1000.0 + 2 * ASK_AGAIN_S]
    assert world.taken[-2] == (StepKind.STOP, 1008.0)


def test_a_second_stop_asks_anew_though_an_older_one_was_noted():
    world = World()
    world.settle(wish(power=Power.OFF, grace_s=60))
    world.settle(wish(generation=4))
    world.now_s += 500
    world.taken.clear()
    world.settle(wish(power=Power.OFF, grace_s=60, generation=5))
    assert world.kinds() == [StepKind.NOTE, StepKind.ASK, StepKind.MARK_APPLIED]


def test_a_guest_of_an_older_release_is_not_booted_by_a_wish_that_changes_nothing():
    world = World()
    world.settle(wish(boot=1))
    assert world.kinds() == [StepKind.MARK_APPLIED]


def test_a_reboot_is_applied_only_when_the_guest_runs_anew():
    wanted = wish(boot=2)
    world = World()
    while isinstance(step := world.planned(wanted), Step):
        assert observation_of(wanted, [world.guest()], world.past) is None
        world.take(step)
    seen = observation_of(wanted, [world.guest()], world.past)
    assert seen is not None
    assert (seen.applied_generation, seen.power, world.starts) == (3, Power.RUNNING, 2)


def test_a_guest_that_could_not_follow_is_told_left_alone_and_follows_the_next_wish():
    world = World(power=Power.OFF)
    why = world.past.missed[CLAIM] = Failure("BROKEN", "it broke", 3)
    assert world.planned(wish()) is None
    seen = observation_of(wish(), [world.guest()], world.past)
    assert seen is not None
    assert (seen.applied_generation, seen.power, seen.absent) == (2, Power.OFF, False)
    assert seen.failure == why
    world.settle(wish(power=Power.OFF, generation=4))
    seen = observation_of(wish(power=Power.OFF, generation=4), [world.guest()], world.past)
    assert seen is not None
    assert (seen.applied_generation, seen.failure) == (4, None)
