"""The items of one commit, and what came of each.

Owns what one decision writes and how the store answers. Does not own the rows (rows), nor who
commits (flows/commit) or how (edges/store).
"""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from services.conductor.logic.rows import (
    CatalogRow,
    ClaimRow,
    HostRow,
    InstanceRow,
    OperationRow,
    ProjectRow,
)
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts, Resources


class ClaimAct(IntEnum):
    """What an item does to a claim. Numbers are those of the SQL function.

    CONDEMN makes a claim, LEAVING and to be erased, for a guest that nobody claims, whether or not
    there is such an instance; DISCARD records that the disk may be erased, the role stays.
    """

    ADD = 1
    LEAVE = 2
    REMOVE = 3
    OBSERVE = 4
    CONDEMN = 5
    DISCARD = 6


@dataclass(frozen=True, slots=True)
class ClaimChange:
    """One act on one claim. `epoch` is 0 for ADD; `incarnation` and `sequence` are for OBSERVE,
    `discard` for LEAVE. With `host_edition` the act stands on what was read of its host.
    """

    act: ClaimAct
    instance_id: str
    host_id: str
    resources: Resources
    epoch: int = 0
    incarnation: int = 0
    sequence: int = 0
    discard: bool = False
    host_edition: int = 0


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a repeated request the same, and what it must answer then.

    `batch` is the method under which the batch that it is of is remembered, "" where it is alone.
    """

    project_id: str
    caller: str
    method: str
    request_id: str
    fingerprint: bytes
    resource_id: str
    operation_id: str
    batch: str = ""

    def of_batch(self) -> "RequestKey":
        """The record of the whole batch: it answers with nothing, each of its items does."""
        return replace(self, method=self.batch, resource_id="", operation_id="", batch="")


@dataclass(frozen=True, slots=True)
class Item:
    """All that one decision writes; it commits whole or not at all.

    Rows carry the version that was read; `wants` says that what is wanted of the instance changed.
    """

    request: RequestKey | None = None
    instance: InstanceRow | None = None
    wants: bool = False
    operations: tuple[OperationRow, ...] = ()
    claims: tuple[ClaimChange, ...] = ()
    host: HostRow | None = None
    entry: CatalogRow | None = None
    project: ProjectRow | None = None
    look_again_s: float = 2.0


class Refusal(Enum):
    """Why the store did not commit an item. MALFORMED: it holds a value that no row can hold.
    NOT_EMPTY: a project or host to delete that has instances.
    """

    REPLAYED = "REPLAYED"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    STALE = "STALE"
    MALFORMED = "MALFORMED"
    NAME_TAKEN = "NAME_TAKEN"
    NO_ROOM = "NO_ROOM"
    NO_QUOTA = "NO_QUOTA"
    NOT_EMPTY = "NOT_EMPTY"
    NO_CLAIM = "NO_CLAIM"
    DUPLICATE = "DUPLICATE"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that was not committed. For REPLAYED: what the first request made.

    For NO_QUOTA: the project as it was then.
    """

    refusal: Refusal
    resource_id: str = ""
    operation_id: str = ""
    project: ProjectRow | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """The version before a change."""

    body: bytes
    revision: int
    epoch: int
    ledger: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A row as others get it: the public message's bytes, and beside them what the commit decided.

    `ledger` is for hosts: target, used (vCPUs, MiB, GiB each) and the number of claims. `before` is
    for changes: the version before, None for the first. `quota` is for projects: limits and use.
    `next_look_us` (since 1970) and `looks` are for operations under way that were read by
    their id: they are no part of the state at a commit.
    """

    kind: ResourceKind
    id: str
    project_id: str
    version: int
    revision: int
    epoch: int
    body: bytes
    deleted: bool
    public: bool
    ledger: tuple[int, ...] = ()
    before: Before | None = None
    quota: tuple[QuotaAmounts, QuotaAmounts] | None = None
    next_look_us: int = 0
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """An item that was committed: its records, in the order of their revisions, and the claims that
    it added as they are now.
    """

    records: tuple[Record, ...]
    claims: tuple[ClaimRow, ...] = ()


Outcome = Committed | Refused
