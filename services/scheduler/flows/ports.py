"""What the flows of scheduler need of the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.scheduler.logic.changes import Change
from services.scheduler.logic.fleet import HostRow
from services.scheduler.logic.request import Outcome


@dataclass(frozen=True, slots=True)
class HostPage:
    """Some hosts in the order of their ids, true at `revision`; `more` follow after the last."""

    hosts: list[HostRow]
    revision: int
    more: bool


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """A stretch of the feed, ascending and without a gap inside; empty, it only tells the head."""

    history_id: str
    head_revision: int
    changes: list[Change]


class Rows(Protocol):
    """What the conductor knows. Each call has a deadline and raises CloudError when it fails."""

    async def host_page(self, after_id: str) -> HostPage:
        """The hosts whose ids follow `after_id`; from the start if it is empty."""
        ...

    async def change_range(self, after_revision: int, limit: int) -> ChangeBatch:
        """At most `limit` changes above a revision."""
        ...


class Decisions(Protocol):
    """Where answers go. They may get lost: whoever asked asks again."""

    async def publish(self, outcomes: Sequence[Outcome], fleet_revision: int) -> None:
        """Sends what was decided from a fleet of this revision."""
        ...


class CaughtUp(Protocol):
    """The feed, as seen by who needs a newer fleet."""

    async def wait_for(self, revision: int) -> None:
        """Waits until the fleet shows this revision, asking for what is late. Has no deadline."""
        ...
