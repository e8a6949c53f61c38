"""How soon what may have been lost is said again: the price of a message that nobody heard.

Owns the times between two looks at an operation; who looks is the reconciler. Source: MECHANICS B5.
"""

from dataclasses import dataclass, replace

from services.conductor.logic.items import Item
from services.conductor.logic.step_table import (
    LOOK_AGAIN_FIRST_S,
    LOOK_AGAIN_MAX_S,
    PLACE_AGAIN_S,
    STEADY_PHASES,
    YOUNG_S,
)
from services.domain.operation import Phase


@dataclass(frozen=True, slots=True)
class Paces:
    """`place_s` between two requests for a host, at any age; `first_s` between two commands while
    the operation is younger than `young_s`, then doubling with every look up to `most_s`.
    """

    place_s: float = PLACE_AGAIN_S
    first_s: float = LOOK_AGAIN_FIRST_S
    most_s: float = LOOK_AGAIN_MAX_S
    young_s: float = YOUNG_S

    def first(self, phase: Phase) -> float:
        """How long after a step its first look comes."""
        return self.place_s if phase in STEADY_PHASES else self.first_s

    def again(self, phase: Phase, *, age_s: float, looks: int) -> float:
        """How long after so many looks the next one comes."""
        if phase in STEADY_PHASES or age_s < self.young_s:
            return self.first(phase)
        return min(self.most_s, self.first_s * 2.0 ** min(looks, 10))

    def paced(self, item: Item) -> Item:
        """The item, with when its unfinished operation is looked at first."""
        for operation in item.operations:
            if not operation.finished:
                return replace(item, look_again_s=self.first(operation.phase))
        return item


USUAL_PACES = Paces()
