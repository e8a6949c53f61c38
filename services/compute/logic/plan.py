"""What is wanted of one instance + what is seen of it -> a step, a refusal, a wait, or nothing.

    leaving                          a guest: STOP -> nothing, it is kept
    absent, or the build failed      a guest: STOP -> ERASE -> nothing
    no wish, a newer claim is here   a guest: STOP -> nothing, it is kept
    present, applied is behind       none or half a guest: PREPARE
      RUNNING    boot not begun      NOTE (boot n, was: this run) -> as below
                 off                 START
                 is on, run = was    down (below)
                 paused              UNPAUSE
                 suspended           RESUME
                 runs, run != was    MARK_APPLIED
      OFF        in memory, or kept  down (below)
                 off                 MARK_APPLIED
      PAUSED     runs                PAUSE
                 else                MARK_APPLIED
      SUSPENDED  in memory           SUSPEND
                 else                MARK_APPLIED
    present, applied is not behind   nothing, whatever its power: that is an observation; where
                                     guests may start without a view, NOTE (ran in this boot)

    down   it does not run, no grace, the driver cannot ask, or the grace is over     STOP
           not noted for this run and generation                                      NOTE (asked)
           not asked by this agent in the last ASK_AGAIN_S                            ASK
           else                                                                       a wait

A boot is begun by its note and done when the guest's run is not the noted one: a death between any
two of these lines neither loses nor repeats it. Only the newest claim of an instance is built, and
only when no guest of another claim is in its place. Does not act: a step may fail or die half-way,
and is chosen again from what is seen then. Source: MECHANICS B1, B2, C2, C7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from services.compute.logic.guest import Asking, Guest, Notes
from services.compute.logic.observation import Failure, Past
from services.compute.logic.wanted import Wanted
from services.domain.instance import ALIVE, Power

# A guest that has just begun to boot does not hear its power button yet.
ASK_AGAIN_S = 3.0


class StepKind(Enum):
    """What a driver can be asked to do."""

    PREPARE = "prepare"
    NOTE = "note"
    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    MARK_APPLIED = "mark applied"
    ASK = "ask to stop"
    STOP = "stop"
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do for one claim, and the wish that it serves; `notes` are those to write."""

    kind: StepKind
    wanted: Wanted
    notes: Notes | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The wish cannot be met on this host, and why."""

    wanted: Wanted
    failure: Failure


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until the guest changes, or for so long."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """The time on the machine's monotonic clock, and whether the driver can ask guests to stop.
    `boot_id` is this boot of the machine where guests may start without a view, "" elsewhere.
    """

    now_s: float
    graceful_stop: bool
    boot_id: str = ""


def next_step(
    wanted: Sequence[Wanted], guests: Sequence[Guest], *, past: Past, moment: Moment
) -> Step | Refusal | Wait | None:
    """The next thing to do for one instance; `wanted` and `guests` are all of that instance."""
    for wish in (*wanted, *_superseded(wanted, guests)):
        step = _removal(wish, guests, past)
        if step is not None:
            return step
    building = [w for w in wanted if _is_buildable(w, past)]
    if not building:
        return None
    wish = max(building, key=lambda w: w.claim.epoch)
    guest = _guest_of(wish, guests)
    if guest is not None and guest.applied_generation >= wish.generation:
        return _keeping(wish, guest, moment)
    others = [g for g in guests if g.identity.claim != wish.claim]
    if others:
        # To refuse is to erase what was built; a guest that has lived is never refused.
        return None if past.has_made(wish) else _in_the_way(wish, wanted, others)
    if guest is None or not guest.prepared:
        lost = guest is None and past.has_made(wish)
        return None if lost else Step(StepKind.PREPARE, wish)
    if past.has_missed(wish):
        return None
    return _power(wish, guest, past=past, moment=moment)


def _keeping(wish: Wanted, guest: Guest, moment: Moment) -> Step | None:
    """Notes what the next boot of the machine has to know where no view comes."""
    if not moment.boot_id:
        return None
    ran_in = guest.notes.ran_in
    if not wish.spec.run:
        ran_in = ""
    elif guest.power is Power.RUNNING:
        ran_in = moment.boot_id
    if ran_in == guest.notes.ran_in:
        return None
    return Step(StepKind.NOTE, wish, replace(guest.notes, ran_in=ran_in))


def _is_buildable(wish: Wanted, past: Past) -> bool:
    return not wish.leaving and wish.spec.present and wish.claim not in past.failures


def _removal(wish: Wanted, guests: Sequence[Guest], past: Past) -> Step | None:
    guest = _guest_of(wish, guests)
    if guest is None or _is_buildable(wish, past):
        return None
    if guest.power in ALIVE:
        return Step(StepKind.STOP, wish)
    return None if wish.leaving else Step(StepKind.ERASE, wish)


def _superseded(wanted: Sequence[Wanted], guests: Sequence[Guest]) -> list[Wanted]:
    """Guests of which nothing is known but that their instance has a newer claim here."""
    if len(guests) <= 1 and not (guests and wanted):
        return []
    claims = {w.claim for w in wanted}
    newest = max((w for w in wanted if not w.unclaimed), key=lambda w: w.claim.epoch, default=None)
    return [
        replace(newest, claim=g.identity.claim, leaving=True, unclaimed=True)
        for g in guests
        if newest and g.identity.claim not in claims and g.identity.epoch < newest.claim.epoch
    ]


def _power(wish: Wanted, guest: Guest, *, past: Past, moment: Moment) -> Step | Wait:
    match wish.spec.power:
        case Power.RUNNING:
            return _running(wish, guest, past=past, moment=moment)
        case Power.PAUSED:
            behind = guest.power is Power.RUNNING
            return Step(StepKind.PAUSE if behind else StepKind.MARK_APPLIED, wish)
        case Power.SUSPENDED:
            behind = guest.power in ALIVE
            return Step(StepKind.SUSPEND if behind else StepKind.MARK_APPLIED, wish)
    if guest.incarnation:
        return _down(wish, guest, past=past, moment=moment)
    return Step(StepKind.MARK_APPLIED, wish)


def _running(wish: Wanted, guest: Guest, *, past: Past, moment: Moment) -> Step | Wait:
    if guest.notes.boot < wish.spec.boot:
        begun = replace(guest.notes, boot=wish.spec.boot, was=guest.incarnation, asked=None)
        return Step(StepKind.NOTE, wish, begun)
    if not guest.incarnation:
        return Step(StepKind.START, wish)
    if guest.incarnation == guest.notes.was:
        return _down(wish, guest, past=past, moment=moment)
    return Step(_GOES_ON.get(guest.power, StepKind.MARK_APPLIED), wish)


_GOES_ON = {Power.PAUSED: StepKind.UNPAUSE, Power.SUSPENDED: StepKind.RESUME}


def _down(wish: Wanted, guest: Guest, *, past: Past, moment: Moment) -> Step | Wait:
    listens = guest.power is Power.RUNNING and moment.graceful_stop
    if not listens or wish.spec.grace_s <= 0:
        return Step(StepKind.STOP, wish)
    asked = guest.notes.asked
    if asked is None or (asked.generation, asked.incarnation) != (
        wish.generation,
        guest.incarnation,
    ):
        asking = Asking(wish.generation, guest.incarnation, moment.now_s)
        return Step(StepKind.NOTE, wish, replace(guest.notes, asked=asking))
    left_s = asked.since_s + wish.spec.grace_s - moment.now_s
    if left_s <= 0:
        return Step(StepKind.STOP, wish)
    incarnation, last_s = past.asked.get(wish.claim, ("", 0.0))
    again_s = last_s + ASK_AGAIN_S - moment.now_s if incarnation == guest.incarnation else 0.0
    return Step(StepKind.ASK, wish) if again_s <= 0 else Wait(min(left_s, again_s))


def _in_the_way(wish: Wanted, wanted: Sequence[Wanted], others: Sequence[Guest]) -> Refusal | None:
    claims = {w.claim for w in wanted if not w.leaving}
    stranger = next((g for g in others if g.identity.claim not in claims), None)
    if stranger is None:
        return None
    # Its owner reads this: epochs stand in no tenant's message.
    return Refusal(wish, Failure("GUEST_IN_THE_WAY", "an older guest of it is in its place"))


def _guest_of(wish: Wanted, guests: Sequence[Guest]) -> Guest | None:
    return next((g for g in guests if g.identity.claim == wish.claim), None)
