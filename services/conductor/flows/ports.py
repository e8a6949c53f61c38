"""What the flows of the conductor need of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.conductor.logic.rows import (
    Caller,
    CatalogRow,
    ClaimRow,
    HostRow,
    InstanceRow,
    Item,
    Outcome,
    Record,
    RequestKey,
    Situation,
)
from services.domain.kinds import HostState, ResourceKind
from services.domain.operation import Phase


@dataclass(frozen=True, slots=True)
class Due:
    """An unfinished operation whose time to be looked at has come; its next look is already set."""

    operation_id: str
    instance_id: str
    phase: Phase
    looks: int
    age_s: float


@dataclass(frozen=True, slots=True)
class View:
    """All claims of one host with what is wanted under them, as of one revision."""

    host_id: str
    incarnation: int
    revision: int
    wanted: tuple[tuple[InstanceRow, ClaimRow], ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A question about records: one by `id`, or a page of those after `after_id`; `deleted`
    includes the dead.
    """

    kind: ResourceKind
    id: str
    project_id: str
    after_id: str
    limit: int
    where: Mapping[str, str]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a query, true as of `revision`."""

    records: tuple[Record, ...]
    revision: int
    more: bool


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

    async def situations_read(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        """Everything that decides about these instances; unknown ids are left out."""
        ...

    async def catalog_read(
        self, wanted: Sequence[tuple[ResourceKind, str]]
    ) -> dict[tuple[ResourceKind, str], CatalogRow]:
        """Living entries by kind and id; others are left out."""
        ...

    async def records_read(self, queries: Sequence[Query]) -> list[Page]:
        """Records as of the newest commit."""
        ...

    async def request_read(self, key: RequestKey) -> RequestKey | None:
        """The remembered request of the same project, caller, method and request id."""
        ...

    async def changes_read(self, after_revision: int, limit: int) -> tuple[list[Record], int]:
        """The change log above a revision, and the head."""
        ...

    async def hosts_read(self, host_ids: Sequence[str]) -> dict[str, HostRow]:
        """Hosts by id; unknown ids are left out."""
        ...

    async def host_view_read(self, host_id: str) -> View | None:
        """The view of a host in one snapshot."""
        ...

    async def leases_renew(self, beats: Sequence[tuple[str, int]]) -> list[BeatAnswer]:
        """Renews the lease of each (host id, live incarnation)."""
        ...

    async def leases_compare(self, lease_s: float, limit: int) -> list[tuple[str, HostState, bool]]:
        """Hosts whose state differs from their lease: (id, recorded state, whether the lease is
        live).
        """
        ...

    async def operations_take(self, limit: int) -> list[Due]:
        """Due operations; their next look is moved on in the same statement, nothing is held
        afterwards.
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

    async def place(self, instances: Sequence[InstanceRow], min_revision: int) -> None:
        """Asks the schedulers for hosts."""
        ...

    async def command(
        self, host_id: str, incarnation: int, wanted: Sequence[tuple[InstanceRow, ClaimRow]]
    ) -> None:
        """Tells one host what is wanted."""
        ...

    async def feed(self, records: Sequence[Record], head_revision: int) -> None:
        """Publishes changes, or the heartbeat of the feed."""
        ...


__all__ = [
    "BeatAnswer",
    "Bus",
    "Caller",
    "Clock",
    "CloudIdentity",
    "Due",
    "Ids",
    "Page",
    "Query",
    "Store",
    "View",
]
