"""What the flows of the conductor need of the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.conductor.logic.items import Item, Outcome, Record, RequestKey
from services.conductor.logic.leases import Beat, Leases
from services.conductor.logic.rows import (
    Caller,
    CatalogRow,
    ClaimRow,
    HostRow,
    InstanceRow,
    OperationRow,
    ProjectRow,
    Situation,
)
from services.conductor.logic.steps import Command, Place
from services.domain.condition import Condition
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.operation import OperationAction, OperationState, Phase


@dataclass(frozen=True, slots=True)
class Due:
    """An unfinished operation whose time to be looked at has come; its next look is already set."""

    operation_id: str
    instance_id: str
    phase: Phase
    looks: int
    age_s: float
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """All claims of one host with what is wanted under them, as of one revision. A condemned guest
    has a claim without an instance. `outdated` are guests that the host has told of whose instance
    has a higher epoch. A `fenced` incarnation is over.
    """

    host_id: str
    incarnation: int
    revision: int
    wanted: tuple[tuple[InstanceRow | None, ClaimRow], ...]
    outdated: tuple[tuple[str, int], ...] = ()
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A question about records: one by `id`, or a page of those that meet all conditions and come
    after (`after_key`, `after_id`) in the order; `deleted` includes the dead.

    `pinned_revision` asks for the records as they were at that commit, 0 for the newest.
    """

    kind: ResourceKind
    id: str
    project_id: str
    after_id: str
    limit: int
    conditions: tuple[Condition, ...] = ()
    order: ListOrder = ListOrder.ID
    descending: bool = False
    after_key: str = ""
    pinned_revision: int = 0
    deleted: bool = False

    @property
    def is_page(self) -> bool:
        """Whether more than one row may have to be looked at."""
        return not self.id or self.pinned_revision > 0


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a query, true as of `revision`.

    With `more` the next page continues after (`last_key`, `last_id`), which may lie beyond the last
    record: a page ends after 10,000 rows that were looked at. Source: MECHANICS E6.
    """

    records: tuple[Record, ...]
    revision: int
    more: bool
    last_id: str = ""
    last_key: str = ""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A stretch of the change log, the head, and the revision above which the log is whole."""

    records: tuple[Record, ...]
    head_revision: int
    compacted_revision: int


@dataclass(frozen=True, slots=True)
class OperationCount:
    """How many operations are under way alike, and how long the oldest has been."""

    action: OperationAction
    state: OperationState
    phase: Phase
    count: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """What a host that beats should know."""

    superseded: bool
    wanted_revision: int


@dataclass(frozen=True, slots=True)
class CloudIdentity:
    """Which cloud this is, and which history of its database."""

    cloud_id: str
    history_id: str


class Store(Protocol):
    """The rows. Each method is one transaction; Unavailable (DATABASE_UNAVAILABLE) where it cannot
    be made.
    """

    async def items_commit(self, items: Sequence[Item]) -> list[Outcome]:
        """The one commit path: each item whole or refused, in order."""
        ...

    async def items_check(self, items: Sequence[Item]) -> list[Outcome]:
        """What items_commit would answer now; nothing is kept, no revision is taken for good."""
        ...

    async def projects_read(self, project_ids: Sequence[str]) -> dict[str, ProjectRow]:
        """Living projects by id, also those that nobody made known but that have instances (with
        version 0); others are left out.
        """
        ...

    async def log_tend(self, keep_s: float, bytes_max: int) -> None:
        """Keeps two partitions of the change log ahead and drops what is older than `keep_s` or
        above `bytes_max`; the compaction revision moves in a commit before each drop.
        """
        ...

    async def situations_read(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        """Everything that decides about these instances; unknown ids are left out."""
        ...

    async def catalog_read(
        self, wanted: Sequence[tuple[ResourceKind, str]]
    ) -> dict[tuple[ResourceKind, str], CatalogRow]:
        """Living entries by kind and id; others are left out."""
        ...

    async def records_read(self, queries: Sequence[Query]) -> list[Page]:
        """Records as of the newest commit or the pinned one. Raises OutOfRange
        (REVISION_COMPACTED), Invalid (FILTER_INVALID), NoCapacity (READ_TOO_LONG).
        """
        ...

    async def request_read(self, key: RequestKey) -> RequestKey | None:
        """The remembered request of the same project, caller, method and request id."""
        ...

    async def changes_read(self, after_revision: int, limit: int) -> ChangePage:
        """The change log above a revision; nothing where it is compacted there."""
        ...

    async def hosts_read(self, host_ids: Sequence[str]) -> dict[str, HostRow]:
        """Hosts by id; unknown ids are left out."""
        ...

    async def host_view_read(self, host_id: str) -> View | None:
        """The view of a host in one snapshot."""
        ...

    async def leases_renew(self, beats: Sequence[Beat]) -> list[BeatAnswer]:
        """Renews the lease of each live incarnation."""
        ...

    async def leases_read(self) -> Leases:
        """All hosts with how long they have been silent, and who was heard meanwhile."""
        ...

    async def silences_read(self, host_ids: Sequence[str]) -> dict[str, float]:
        """For how long these hosts have given no sign of life, in seconds."""
        ...

    async def epochs_read(self, instance_ids: Sequence[str]) -> dict[str, int]:
        """The highest epoch of each instance: of its claims, or its own; others are left out."""
        ...

    async def operations_count(self) -> Sequence[OperationCount]:
        """Operations that are under way, by what they do and where they are."""
        ...

    async def requests_sweep(self, keep_s: float, limit: int) -> int:
        """Forgets at most `limit` requests that are older than `keep_s`, a batch after its items;
        how many.
        """
        ...

    async def operations_take(self, limit: int, ahead_s: float = 0.0) -> list[Due]:
        """Operations that are due `ahead_s` from now; their next look is moved on in the same
        statement, nothing is held afterwards.
        """
        ...


class Clock(Protocol):
    """The time that rows are stamped with."""

    def now_s(self) -> float:
        """Seconds since 1970."""
        ...


class Ids(Protocol):
    """Fresh identities."""

    def new_id(self) -> str:
        """A UUID in lower case, later than all before it."""
        ...


class Bus(Protocol):
    """The way out to schedulers, hosts and followers. Anything may be lost."""

    async def place(self, places: Sequence[Place], min_revision: int) -> None:
        """Asks the schedulers for hosts."""
        ...

    async def command(self, host_id: str, incarnation: int, commands: Sequence[Command]) -> None:
        """Tells one host what is wanted."""
        ...

    async def feed(
        self, records: Sequence[Record], head_revision: int, *, compacted_revision: int
    ) -> None:
        """Publishes changes, or the heartbeat of the feed."""
        ...


class FenceDriver(Protocol):
    """The operator's means to make sure that a host runs nothing."""

    name: str

    async def fence(self, host_id: str) -> bool:
        """Whether the host and all its guests are known to run no more. May be repeated."""
        ...


class Bodies(Protocol):
    """What is written in the records' bodies."""

    def operation_of(self, record: Record) -> OperationRow:
        """The operation that a record tells of."""
        ...

    def unborn(self, record: Record) -> Record:
        """What a record would say of a thing that has no identity yet: without id and version."""
        ...

    def unknown_project(self, project_id: str, revision: int) -> Record:
        """A project of which nobody has made anything known, version 0."""
        ...


__all__ = [
    "BeatAnswer",
    "Bodies",
    "Bus",
    "Caller",
    "ChangePage",
    "Clock",
    "CloudIdentity",
    "Due",
    "FenceDriver",
    "Ids",
    "OperationCount",
    "Page",
    "Query",
    "Store",
    "View",
]
