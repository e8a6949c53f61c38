"""The rows of stead as plain values, and the items of one commit.

Owns what a row holds. Does not own how it is stored (edges/store) nor what may happen to it
(lifecycle). `version` and `revision` are what was read; 0 means that the row is not there yet.
"""

from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum

from services.conductor.logic.rows_of_catalog import (
    CatalogRow,
    FlavorRow,
    ImageReference,
    ImageRow,
    KeyPairRow,
    ProjectRow,
)
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import (
    ClaimRole,
    FenceKind,
    HostState,
    ResourceKind,
)
from services.domain.operation import FINISHED, OperationAction, OperationState, Phase
from services.domain.resources import Overcommit, QuotaAmounts, Resources
from services.domain.trace import UNTRACED, Trace


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf something is asked."""

    subject: str
    project_id: str
    cloud_admin: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be of an instance: a record, never a verb. `boot` counts the wanted boots;
    `grace_s` is how long the guest may take to go down by itself.
    """

    present: bool
    run: bool
    boot: int
    image: ImageReference
    ssh_public_keys: tuple[str, ...]
    user_data: bytes
    grace_s: int = 0


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance whole. Times are seconds since 1970."""

    id: str
    project_id: str
    name: str
    standing: Standing
    power: Power
    flavor_id: str
    image_id: str
    labels: dict[str, str]
    resources: Resources
    wanted: Wanted
    created_at_s: float
    generation: int = 1
    host_id: str = ""
    epoch: int = 0
    attempt: int = 1
    excluded_host_ids: tuple[str, ...] = ()
    fault: str = ""
    version: int = 0
    revision: int = 0

    @property
    def deleted(self) -> bool:
        """Whether it is at the end of its life."""
        return self.standing.state is State.DELETED


NEW_STANDING = Standing(State.REQUESTED, Task.SCHEDULING)


@dataclass(frozen=True, slots=True)
class OperationFault:
    """Why an operation did not end as asked; `code` is a gRPC status code."""

    code: int
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation whole. `phases` are (phase, when it began), the last one present;
    `last_fault` is what its last failed try met, `deadline_at_s` when its phase is given up, 0
    where that is not told yet.
    """

    id: str
    project_id: str
    resource_id: str
    action: OperationAction
    state: OperationState
    phases: tuple[tuple[Phase, float], ...]
    actor: str
    request_id: str
    created_at_s: float
    ended_at_s: float = 0.0
    fault: OperationFault | None = None
    tries: int = 0
    progress: str = ""
    last_fault: OperationFault | None = None
    deadline_at_s: float = 0.0
    trace: Trace = UNTRACED
    version: int = 0
    revision: int = 0

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self.phases[-1][0]

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A host's claim for an instance. `wanted_revision`: the commit that last changed what is
    wanted under it.

    `host_incarnation`, `host_state` and `host_fenced` are those of its host, read with it.
    `discard` is the recorded word that the guest's disk may be erased. Source: MECHANICS C7.
    """

    instance_id: str
    epoch: int
    host_id: str
    role: ClaimRole
    wanted_revision: int
    host_incarnation: int
    host_state: HostState
    discard: bool = False
    host_fenced: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides about one instance, read at once: its row, its unfinished operation, its
    claims. `head_revision` is the commit at which that was so; `overdue` whether the deadline of
    the operation had passed then, by the database's clock.
    """

    instance: InstanceRow
    operation: OperationRow | None
    claims: tuple[ClaimRow, ...]
    head_revision: int = 0
    overdue: bool = False

    @property
    def holder(self) -> ClaimRow | None:
        """The claim that holds the instance, if one does."""
        return next((c for c in self.claims if c.role is ClaimRole.HOLDER), None)


@dataclass(frozen=True, slots=True)
class Fence:
    """The record that the agent of this incarnation, and all guests of its host, are known to run
    no more: how that is known, by whom, why, and since when. Source: MECHANICS C5.
    """

    incarnation: int
    how: FenceKind
    by: str
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host as it describes itself. `capabilities` is carried, not looked into.

    `seen_edition` counts the writes of what the host or an admin says of it, as it was read, 0 for
    a new host: the commit stands only on it.
    """

    id: str
    seen_edition: int
    machine_id: str
    boot_id: str
    state: HostState
    enabled: bool
    incarnation: int
    capacity: Resources
    reserved: Resources
    overcommit: Overcommit
    target: Resources
    capabilities: bytes
    agent_version: str
    created_at_s: float
    disabled_reason: str = ""
    fence: Fence | None = None
    deleted: bool = False

    @property
    def fenced(self) -> bool:
        """Whether the incarnation that it has now is fenced."""
        return self.fence is not None and self.fence.incarnation == self.incarnation


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
    NOT_EMPTY: a project to delete that has instances.
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

__all__ = [
    "NEW_STANDING",
    "Before",
    "Caller",
    "CatalogRow",
    "ClaimAct",
    "ClaimChange",
    "ClaimRow",
    "Committed",
    "Fence",
    "FlavorRow",
    "HostRow",
    "ImageReference",
    "ImageRow",
    "InstanceRow",
    "Item",
    "KeyPairRow",
    "OperationFault",
    "OperationRow",
    "Outcome",
    "ProjectRow",
    "Record",
    "Refusal",
    "Refused",
    "RequestKey",
    "Situation",
    "Wanted",
]
