"""A guest as a driver finds it, and the identity that it carries.

Does not know what is wanted of it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from services.domain.instance import Power


class Claim(NamedTuple):
    """Names one claim: the instance, and the epoch that fences it."""

    instance_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What every guest carries: whose it is, and under which claim it was made."""

    cloud_id: str
    instance_id: str
    epoch: int

    @property
    def claim(self) -> Claim:
        """The claim under which it was made."""
        return Claim(self.instance_id, self.epoch)


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest of this cloud as the driver finds it.

    `prepared` is false while its disk or definition is incomplete; `applied_generation` is the
    newest generation that was recorded with `mark_applied`, 0 if none.
    """

    identity: Identity
    prepared: bool
    power: Power
    applied_generation: int
