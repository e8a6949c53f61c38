"""What a host has to say and whether it was heard: numbering, bound and merging of observations.

Numbers count from 1 within an incarnation. At most `UNACKNOWLEDGED_MAX` are on the road; what is
noted beyond that waits, one per claim, the newest in the place of the older. Source: MECHANICS D4.
Does not know the road.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from services.compute.logic.guest import Claim
from services.compute.logic.observation import Observation

UNACKNOWLEDGED_MAX = 256


@dataclass(frozen=True, slots=True)
class Numbered:
    """An observation on its way."""

    sequence: int
    observation: Observation


class Outbox:
    """The observations of one incarnation."""

    def __init__(self) -> None:
        self._sequence = 0
        self._sent: dict[int, Numbered] = {}
        self._waiting: dict[Claim, Observation] = {}
        self._said: dict[Claim, Observation] = {}
        self._overdue_below = 0

    def begin(self) -> None:
        """Starts a new incarnation: everything is to be said anew, from number 1."""
        self._sequence = 0
        self._overdue_below = 0
        self._sent.clear()
        self._waiting.clear()
        self._said.clear()

    def note(self, observation: Observation) -> None:
        """Takes what was seen; what equals the last word on its claim is not said again."""
        if self._said.get(observation.claim) == observation:
            return
        self._said[observation.claim] = observation
        # A claim that waits already keeps its place in the queue.
        self._waiting[observation.claim] = observation

    def take(self) -> list[Numbered]:
        """Numbers and gives what may be sent now; empty if nothing waits or too much is on the
        road.
        """
        taken: list[Numbered] = []
        while self._waiting and len(self._sent) < UNACKNOWLEDGED_MAX:
            claim = next(iter(self._waiting))
            self._sequence += 1
            numbered = Numbered(self._sequence, self._waiting.pop(claim))
            self._sent[self._sequence] = numbered
            taken.append(numbered)
        return taken

    def acknowledge(self, sequences: Iterable[int]) -> list[Numbered]:
        """Takes the numbers that were answered; gives what was heard just now by them."""
        heard = (self._sent.pop(sequence, None) for sequence in sequences)
        return [numbered for numbered in heard if numbered is not None]

    def overdue(self) -> list[Numbered]:
        """What was on the road already when this was asked before, to be sent again under its old
        number.
        """
        late = [n for n in self._sent.values() if n.sequence <= self._overdue_below]
        self._overdue_below = self._sequence
        return late

    def forget(self, claim: Claim) -> None:
        """Forgets what was said of a claim that has ended."""
        self._said.pop(claim, None)
        self._waiting.pop(claim, None)

    @property
    def has_waiting(self) -> bool:
        """Whether something could be sent now."""
        return bool(self._waiting) and len(self._sent) < UNACKNOWLEDGED_MAX
