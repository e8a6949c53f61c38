"""What an audit compares: records beside each other as one snapshot showed them.

Owns the shapes. Does not own what differs (audit) nor how they are read (edges/store/audit).
"""

from dataclasses import dataclass

from services.conductor.logic.guest_policy import MADE
from services.domain.instance import Power, State, Task
from services.domain.kinds import ClaimRole, HostState

# vCPUs, MiB, GiB and how many.
Amounts = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class HostFact:
    """A host's ledger (vCPUs, MiB, GiB, claims) beside what its claims add up to."""

    id: str
    used: Amounts
    claimed: Amounts


@dataclass(frozen=True, slots=True)
class ProjectFact:
    """A project's use (vCPUs, MiB, GiB, instances) beside what its living instances add up to."""

    id: str
    used: Amounts
    living: Amounts


@dataclass(frozen=True, slots=True)
class InstanceFact:
    """A living instance, the claim that holds it (host, epoch), and its unfinished operation."""

    id: str
    project_id: str
    state: State
    task: Task
    host_id: str
    epoch: int
    holder: tuple[str, int] | None
    operation_id: str


@dataclass(frozen=True, slots=True)
class ClaimFact:
    """A claim and the instance that it is for: `state` is None where there is none."""

    instance_id: str
    epoch: int
    host_id: str
    role: ClaimRole
    project_id: str
    state: State | None
    instance_host_id: str
    instance_epoch: int


@dataclass(frozen=True, slots=True)
class OperationFact:
    """An unfinished operation and its instance. `look_late_s` is for how long it should have been
    looked at, `late_s` how long ago its deadline was, None without one.

    `of_instance` says whether it is about an instance at all; `state` is None where there is none.
    """

    id: str
    project_id: str
    resource_id: str
    of_instance: bool
    look_late_s: float
    late_s: float | None
    state: State | None
    task: Task | None


@dataclass(frozen=True, slots=True)
class GuestFact:
    """What is known of one guest on one host: its claim there (`role`; `discard` where it may be
    erased, for `discarded_s` by now), what the host said of it (`power` and `applied_generation`,
    None where it said nothing), and its instance.

    `newest_epoch` is the newest claim of the instance, on any host.
    """

    instance_id: str
    epoch: int
    role: ClaimRole | None
    discard: bool
    discarded_s: float
    power: Power | None
    applied_generation: int
    project_id: str
    state: State | None
    task: Task | None
    known_power: Power | None
    version: int
    newest_epoch: int

    @property
    def has_newer_disk(self) -> bool:
        """Whether its instance was made anew under a later claim; one that is still being made may
        fail, and then this guest's is the only disk.
        """
        is_made = self.state in MADE and self.task is not Task.EVACUATING
        return is_made and self.newest_epoch > self.epoch


@dataclass(frozen=True, slots=True)
class Report:
    """When and how a host last told what it has. `as_of_revision` as in the contract's
    Inventory.
    """

    incarnation: int
    as_of_revision: int
    cut_short: bool
    age_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A host and when it last told what it has, in a snapshot at `head_revision`."""

    host_id: str
    state: HostState
    incarnation: int
    head_revision: int
    report: Report | None

    @property
    def is_fresh(self) -> bool:
        """Whether the report is of the live agent."""
        return self.report is not None and self.report.incarnation == self.incarnation

    def is_listed_after(self, revision: int) -> bool:
        """Whether its guests were listed after this commit."""
        return self.report is not None and self.is_fresh and self.report.as_of_revision >= revision


@dataclass(frozen=True, slots=True)
class HostLook(Heard):
    """A host with its claims and guests, all of that snapshot."""

    guests: tuple[GuestFact, ...]


@dataclass(frozen=True, slots=True)
class UnknownGuest:
    """A guest that no claim stands for. Times are seconds since 1970."""

    host_id: str
    instance_id: str
    epoch: int
    power: Power
    newest_epoch: int
    head_revision: int
    first_reported_at_s: float
    reported_at_s: float

    @property
    def key(self) -> tuple[str, str, int]:
        """Where it stands in a list."""
        return self.host_id, self.instance_id, self.epoch
