"""What a host saw of a guest, as the conductor takes it in.

Owns how an observation is numbered and what releases its claim. Does not own what becomes of the
instance (lifecycle, power).
"""

from dataclasses import dataclass

from services.conductor.logic.items import ClaimAct, ClaimChange, Item
from services.domain.instance import Power
from services.domain.resources import NOTHING


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation of a host, with its number and origin. `failure` is (reason, message) or
    None; `failed_generation` is what could not be made, 0 where the host does not say.
    """

    instance_id: str
    epoch: int
    host_id: str
    incarnation: int
    sequence: int
    applied_generation: int
    power: Power
    absent: bool
    failure: tuple[str, str] | None = None
    progress: str = ""
    failed_generation: int = 0


def numbered(seen: Seen) -> ClaimChange:
    """Records the observation's number on its claim."""
    return ClaimChange(
        ClaimAct.OBSERVE,
        seen.instance_id,
        seen.host_id,
        NOTHING,
        epoch=seen.epoch,
        incarnation=seen.incarnation,
        sequence=seen.sequence,
    )


def unclaimed(seen: Seen) -> Item:
    """What is written of a guest that is no instance's holder: nothing but its end matters."""
    return Item(claims=(numbered(seen), released(seen)) if seen.absent else (numbered(seen),))


def released(seen: Seen) -> ClaimChange:
    """Gives the claim's resources back: its host has nothing of it any more."""
    return ClaimChange(ClaimAct.REMOVE, seen.instance_id, seen.host_id, NOTHING, epoch=seen.epoch)
