"""A guest as a driver finds it, the identity that it carries, and what an agent noted beside it.

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
class Asking:
    """A guest was asked to shut down: which run of it, for which generation, and when first.

    `since_s` is of the machine's monotonic clock: no guest outlives a boot of its machine.
    """

    generation: int
    incarnation: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Notes:
    """What an agent writes beside a guest before it acts, so that the next one goes on from there.

    `boot` is the newest boot that was begun, `was` the run of the guest that it replaces ("" where
    it was off). A guest without notes has had its first boot. `ran_in` is the boot of the machine
    in which it last ran as it should, "" where it should not, or where that is not kept. Source:
    MECHANICS B2, C8.
    """

    boot: int = 1
    was: str = ""
    asked: Asking | None = None
    ran_in: str = ""


NO_NOTES = Notes()


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest of this cloud as the driver finds it.

    `prepared` is false while its disk or definition is incomplete; `applied_generation` is the
    newest generation that was recorded with `mark_applied`, 0 if none. `incarnation` names this run
    of it, another one after each start by the hypervisor, "" while it is off; one that is suspended
    has one, too.
    """

    identity: Identity
    prepared: bool
    power: Power
    applied_generation: int
    incarnation: str = ""
    notes: Notes = NO_NOTES
