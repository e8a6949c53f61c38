"""What the feed means to the fleet.

Owns the application of changes; does not own their order: the follower does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.scheduler.logic.fleet import Fleet, HostRow


@dataclass(frozen=True, slots=True)
class Change:
    """One revision of the feed: a host's new row, a host gone, an instance that waits no more, or
    nothing of interest.
    """

    revision: int
    host: HostRow | None = None
    gone_host_id: str = ""
    settled_instance_id: str = ""


def apply(fleet: Fleet, changes: Sequence[Change]) -> None:
    """Brings the fleet to the last of `changes`, which ascend by revision.

    A claim shows in two changes, its host's and its instance's. If the instance's comes first and
    alone, its room looks free until the other comes: the ledger then refuses, and nothing is lost.
    """
    for change in changes:
        if change.host is not None:
            fleet.host_upsert(change.host)
        elif change.gone_host_id:
            fleet.host_remove(change.gone_host_id, change.revision)
        elif change.settled_instance_id:
            fleet.debit_release(change.settled_instance_id)
        fleet.revision = change.revision
