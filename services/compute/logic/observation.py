"""What a host says of a claim, computed from what is wanted, what is seen and what happened before.

Owns what is worth saying. Does not number or send it: `outbox` does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.compute.logic.guest import Claim, Guest
from services.compute.logic.wanted import Wanted
from services.domain.instance import ALIVE, Power


@dataclass(frozen=True, slots=True)
class Failure:
    """Why what was wanted cannot be made. `reason` is a stable UPPER_SNAKE cause, `generation` the
    wish that it is about (0: not said).
    """

    reason: str
    message: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one claim.

    `absent`: nothing of it is left, and nothing of it will come back.
    """

    claim: Claim
    applied_generation: int = 0
    power: Power = Power.PENDING
    absent: bool = False
    failure: Failure | None = None
    progress: str = ""


@dataclass(slots=True)
class Past:
    """What this agent remembers of claims: builds that failed, the newest generation seen applied,
    wishes that guests which have lived could not follow, and when which run of a guest was last
    asked to stop.
    """

    failures: dict[Claim, Failure] = field(default_factory=dict)
    applied: dict[Claim, int] = field(default_factory=dict)
    missed: dict[Claim, Failure] = field(default_factory=dict)
    asked: dict[Claim, tuple[str, float]] = field(default_factory=dict)

    def note(self, guests: Sequence[Guest]) -> None:
        """Remembers the generations that are applied."""
        for guest in guests:
            if guest.applied_generation > 0:
                self.applied[guest.identity.claim] = guest.applied_generation

    def has_missed(self, wanted: Wanted) -> bool:
        """Whether a guest that has lived could not follow this very wish."""
        missed = self.missed.get(wanted.claim)
        return missed is not None and missed.generation == wanted.generation

    def has_made(self, wanted: Wanted) -> bool:
        """Whether the guest of this claim was once made whole, as this agent or the control plane
        remembers.
        """
        return wanted.built or wanted.claim in self.applied

    def keep(self, claims: Iterable[Claim]) -> None:
        """Forgets all other claims: no wish about them can come any more."""
        kept = set(claims)
        self.failures = {c: f for c, f in self.failures.items() if c in kept}
        self.applied = {c: g for c, g in self.applied.items() if c in kept}
        self.missed = {c: m for c, m in self.missed.items() if c in kept}
        self.asked = {c: a for c, a in self.asked.items() if c in kept}


def observation_of(wanted: Wanted, guests: Sequence[Guest], past: Past) -> Observation | None:
    """What there is to say of the claim of `wanted` now; None while work on it is under way.

    A guest that was applied and is gone is CRASHED: it is not made again, since its disk is gone
    with it, and no later wish can be followed. One that has lived and could not follow is told with
    its failure, as it is.
    """
    claim = wanted.claim
    guest = next((g for g in guests if g.identity.claim == claim), None)
    if wanted.leaving:
        return _left(wanted, guest)
    failure = past.failures.get(claim)
    if failure is not None or not wanted.spec.present:
        if guest is not None:
            return None
        applied_generation = 0 if wanted.spec.present else wanted.generation
        return Observation(claim, applied_generation, absent=True, failure=failure)
    if guest is None:
        return _gone(wanted, past)
    if not guest.prepared:
        return None
    if past.has_missed(wanted):
        why = past.missed[claim]
        return Observation(claim, guest.applied_generation, guest.power, failure=why)
    if guest.applied_generation < wanted.generation:
        return None
    return Observation(claim, guest.applied_generation, guest.power)


def _left(wanted: Wanted, guest: Guest | None) -> Observation | None:
    """Of a guest that is only to be off: that it is, or that nothing is left of it."""
    if wanted.unclaimed or (guest is not None and guest.power in ALIVE):
        return None
    if guest is None:
        return Observation(wanted.claim, absent=True)
    return Observation(wanted.claim, guest.applied_generation, guest.power)


def _gone(wanted: Wanted, past: Past) -> Observation | None:
    if not past.has_made(wanted):
        return None
    why = Failure("GUEST_LOST", "nothing of it is left on its host", wanted.generation)
    applied = past.applied.get(wanted.claim, 0)
    return Observation(wanted.claim, applied, Power.CRASHED, failure=why)
