"""The rows of stead as plain values.

Owns what a row holds. Does not own how it is stored (edges/store) nor what may happen to it
(lifecycle). `version` and `revision` are what was read; 0 means that the row is not there yet.
"""

from dataclasses import dataclass, field

from services.conductor.logic.rows_of_catalog import (
    CatalogRow,
    FlavorRow,
    ImageReference,
    ImageRow,
    KeyPairRow,
    ProjectRow,
)
from services.domain.instance import Action, Power, Standing, State, Task
from services.domain.kinds import (
    ClaimRole,
    FenceKind,
    HostState,
)
from services.domain.operation import FINISHED, OperationAction, OperationState, Phase
from services.domain.resources import Overcommit, Resources
from services.domain.trace import UNTRACED, Trace


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf something is asked."""

    subject: str
    project_id: str
    cloud_admin: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be of an instance: a record, never a verb. `power` is RUNNING, OFF, PAUSED or
    SUSPENDED; `boot` counts the wanted boots; `grace_s` is how long the guest may take to go down
    by itself.
    """

    present: bool
    power: Power
    boot: int
    image: ImageReference
    ssh_public_keys: tuple[str, ...]
    user_data: bytes
    grace_s: int = 0

    @property
    def run(self) -> bool:
        """Whether the guest shall execute."""
        return self.power is Power.RUNNING


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

    `host_incarnation`, `host_state` and `host_fenced` are those of its host, read with it, and
    `host_edition` is the writing of the host that said so, 0 where no commit may stand on them.
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
    host_edition: int = 0


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
    """A host as it describes itself. `capabilities` is carried; what of the actions its driver
    `lacks` is known where the row was read.

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
    lacks: frozenset[Action] = frozenset()

    @property
    def fenced(self) -> bool:
        """Whether the incarnation that it has now is fenced."""
        return self.fence is not None and self.fence.incarnation == self.incarnation


__all__ = [
    "NEW_STANDING",
    "Caller",
    "CatalogRow",
    "ClaimRow",
    "Fence",
    "FlavorRow",
    "HostRow",
    "ImageReference",
    "ImageRow",
    "InstanceRow",
    "KeyPairRow",
    "OperationFault",
    "OperationRow",
    "ProjectRow",
    "Situation",
    "Wanted",
]
