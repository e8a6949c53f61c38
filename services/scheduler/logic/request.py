"""What asks for a place.

Owns the shape by which requests are grouped, and what is answered to each.
"""

from dataclasses import dataclass

from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from services.domain.trace import UNTRACED, Trace


@dataclass(frozen=True, slots=True)
class Shape:
    """All that matters of a request to filters and weighers: requests of one shape are placed
    together.
    """

    resources: Resources
    architecture: Architecture
    image_kind: ImageKind
    excluded_host_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Request:
    """One instance that needs a host.

    `attempt` is echoed; a refusal counts only from `min_revision` on; `trace` is for logs.
    """

    instance_id: str
    attempt: int
    min_revision: int
    shape: Shape
    trace: Trace = UNTRACED


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many of all hosts one filter rejected."""

    filter: str
    hosts: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A host was found.

    `runner_up_ids` are the next best, best first; `hosts` is how many there are in all.
    """

    request: Request
    host_id: str
    runner_up_ids: tuple[str, ...]
    hosts: int
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """No host fits now.

    `only_promised` says that one would, were it not for promises the ledger does not show yet.
    """

    request: Request
    hosts: int
    rejections: tuple[Rejection, ...]
    only_promised: bool


Outcome = Placed | Refused
