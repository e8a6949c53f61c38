"""What is wanted of one instance + what is seen of it -> the next step, a refusal, or nothing.

    absent, or the build failed      a guest: STOP -> ERASE -> nothing
    present, applied is behind       none or half a guest: PREPARE -> START or STOP -> MARK_APPLIED
    present, applied is not behind   nothing, whatever its power: that is an observation

Only the newest claim of an instance is built, and only when no guest of another claim is in its
place. Does not act: a step may fail or die half-way, and is chosen again from what is seen then.
Source: MECHANICS B1, C2, C7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.compute.logic.guest import Guest
from services.compute.logic.observation import Failure, Past
from services.compute.logic.wanted import Wanted
from services.domain.instance import Power


class StepKind(Enum):
    """What a driver can be asked to do."""

    PREPARE = "prepare"
    START = "start"
    MARK_APPLIED = "mark applied"
    STOP = "stop"
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do for one claim, and the wish that it serves."""

    kind: StepKind
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Refusal:
    """The wish cannot be met on this host, and why."""

    wanted: Wanted
    failure: Failure


def next_step(
    wanted: Sequence[Wanted], guests: Sequence[Guest], past: Past
) -> Step | Refusal | None:
    """The next thing to do for one instance; `wanted` and `guests` are all of that instance."""
    for wish in wanted:
        step = _removal(wish, guests, past)
        if step is not None:
            return step
    building = [w for w in wanted if _is_buildable(w, past)]
    if not building:
        return None
    return _build(max(building, key=lambda w: w.claim.epoch), wanted, guests=guests, past=past)


def _is_buildable(wish: Wanted, past: Past) -> bool:
    return wish.spec.present and wish.claim not in past.failures


def _removal(wish: Wanted, guests: Sequence[Guest], past: Past) -> Step | None:
    guest = _guest_of(wish, guests)
    if guest is None or _is_buildable(wish, past):
        return None
    return Step(StepKind.STOP if guest.power is Power.RUNNING else StepKind.ERASE, wish)


def _build(
    wish: Wanted, wanted: Sequence[Wanted], *, guests: Sequence[Guest], past: Past
) -> Step | Refusal | None:
    guest = _guest_of(wish, guests)
    if guest is not None and guest.applied_generation >= wish.generation:
        return None
    others = [g for g in guests if g.identity.claim != wish.claim]
    if others:
        # To refuse is to erase what was built; a guest that has lived is never refused.
        return None if wish.claim in past.applied else _in_the_way(wish, wanted, others)
    if guest is None:
        return None if wish.claim in past.applied else Step(StepKind.PREPARE, wish)
    if not guest.prepared:
        return Step(StepKind.PREPARE, wish)
    if wish.spec.run != (guest.power is Power.RUNNING):
        return Step(StepKind.START if wish.spec.run else StepKind.STOP, wish)
    return Step(StepKind.MARK_APPLIED, wish)


def _in_the_way(wish: Wanted, wanted: Sequence[Wanted], others: Sequence[Guest]) -> Refusal | None:
    claims = {w.claim for w in wanted}
    stranger = next((g for g in others if g.identity.claim not in claims), None)
    if stranger is None:
        return None
    # Its owner reads this: epochs stand in no tenant's message.
    return Refusal(wish, Failure("GUEST_IN_THE_WAY", "an older guest of it is in its place"))


def _guest_of(wish: Wanted, guests: Sequence[Guest]) -> Guest | None:
    return next((g for g in guests if g.identity.claim == wish.claim), None)
