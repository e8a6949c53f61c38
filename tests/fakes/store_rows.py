"""The rows of the store in memory, and the records that are made of them.

Owns what stands where. Does not own what may be written (`store_verdicts`) nor how (`store`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.conductor.edges.store import codec, codec_catalog, codec_owners
from services.conductor.edges.store.writes import entry_kind
from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.logic.items import Before, Record, RequestKey
from services.conductor.logic.rows import (
    CatalogRow,
    ClaimRow,
    FlavorRow,
    HostRow,
    ImageRow,
    InstanceRow,
    OperationRow,
    ProjectRow,
)
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.resources import NOTHING, UNUSED, QuotaAmounts, Resources

Key = tuple[ResourceKind, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it is stored."""

    instance_id: str
    epoch: int
    host_id: str
    role: ClaimRole
    resources: Resources
    wanted_revision: int
    incarnation: int = 0
    sequence: int = 0
    discard: bool = False
    discarded_at_s: float | None = None

    def condemned(self, now_s: float) -> Claim:
        """The same with the word that it may be erased, which is given once."""
        at_s = now_s if self.discarded_at_s is None else self.discarded_at_s
        return replace(self, discard=True, discarded_at_s=at_s)


@dataclass(frozen=True, slots=True)
class Host:
    """A host as it is stored, with its ledger."""

    row: HostRow
    used: Resources = NOTHING
    claims: int = 0
    version: int = 0
    revision: int = 0

    @property
    def ledger(self) -> tuple[int, ...]:
        """Target, used and number of claims."""
        return (*amounts(self.row.target), *amounts(self.used), self.claims)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it is stored, with when it is looked at. Times are those of the store."""

    row: OperationRow
    look_again_at_s: float
    accepted_at_s: float
    deadline_at_s: float
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """A project as it is stored; version 0 is one that nobody has made known."""

    row: ProjectRow
    used: QuotaAmounts = UNUSED

    @property
    def seen_version(self) -> int:
        """The version that a writer must have seen."""
        return 0 if self.row.deleted else self.row.version

    @property
    def quota_ledger(self) -> tuple[int | None, ...]:
        """Own limits, None where the usual ones hold, and use."""
        own = self.row.limits
        limits: tuple[int | None, ...] = (None,) * 4 if own is None else quota(own)
        return (*limits, *quota(self.used))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a host said last that it has, when, and when each guest was first told of."""

    told: Inventory
    at_s: float
    guests: dict[tuple[str, int], tuple[ReportedGuest, float]]


@dataclass(slots=True)
class Rows:
    """All tables. Rows are never changed, only put in the place of others."""

    head: int = 0
    compacted: int = 0
    instances: dict[str, InstanceRow] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    under_way: dict[str, str] = field(default_factory=dict)
    claims: dict[tuple[str, int], Claim] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    leases: dict[str, tuple[int, float, bool]] = field(default_factory=dict)
    inventories: dict[str, Kept] = field(default_factory=dict)
    catalog: dict[Key, CatalogRow] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)
    requests: dict[tuple[str, str, str, str], RequestKey] = field(default_factory=dict)
    roads: dict[int, tuple[float, float]] = field(default_factory=dict)
    requested_at_s: dict[tuple[str, str, str, str], float] = field(default_factory=dict)
    log: list[Record] = field(default_factory=list)
    histories: dict[Key, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def copy(self) -> Rows:
        """The same rows, to be thrown away."""
        kept: dict[str, Any] = {
            name: dict(getattr(self, name))
            for name in (
                "instances", "names", "operations", "under_way", "claims", "hosts", "leases",
                "catalog", "projects", "requests", "requested_at_s", "roads", "inventories",
            )
        }  # fmt: skip
        histories = defaultdict(list, {k: list(v) for k, v in self.histories.items()})
        return replace(self, **kept, log=list(self.log), histories=histories)

    def claims_of(self, instance_id: str) -> list[Claim]:
        """The claims for one instance, in the order of their epochs."""
        found = [c for c in self.claims.values() if c.instance_id == instance_id]
        return sorted(found, key=lambda c: c.epoch)

    def claim_row(self, claim: Claim) -> ClaimRow:
        """A claim with what its host is."""
        host = self.hosts[claim.host_id].row
        return ClaimRow(
            claim.instance_id, claim.epoch, claim.host_id, claim.role, claim.wanted_revision,
            host.incarnation, host.state, discard=claim.discard, host_fenced=host.fenced,
            host_edition=host.seen_edition,
        )  # fmt: skip

    def then(self, key: Key, revision: int) -> Record | None:
        """What stood there as of a commit."""
        history = self.histories[key]
        place = bisect_right(history, revision, key=lambda r: r.revision)
        return history[place - 1] if place else None

    def tell(self, record: Record, *, anew: bool = False) -> Record:
        """Logs a change with the version before it; with `anew` there was none."""
        history = self.histories[record.kind, record.id]
        if history and not anew:
            last = history[-1]
            told = Before(last.body, last.revision, last.epoch, last.ledger)
            record = replace(record, before=told)
        history.append(record)
        self.log.append(record)
        return record


def amounts(resources: Resources) -> tuple[int, int, int]:
    """An amount in the order in which ledgers have it."""
    return (resources.vcpus, resources.memory_mib, resources.disk_gib)


def quota(limits: QuotaAmounts) -> tuple[int, int, int, int]:
    """Limits in the order in which ledgers have them."""
    return (limits.instances, limits.vcpus, limits.memory_mib, limits.disk_gib)


def instance_record(row: InstanceRow) -> Record:
    """An instance's record."""
    return Record(
        ResourceKind.INSTANCE, row.id, row.project_id, row.version, row.revision, row.epoch,
        codec.instance_body(row), row.deleted, False,
    )  # fmt: skip


def operation_record(row: OperationRow) -> Record:
    """An operation's record."""
    return Record(
        ResourceKind.OPERATION, row.id, row.project_id, row.version, row.revision, 0,
        codec.operation_body(row), False, False,
    )  # fmt: skip


def entry_record(row: CatalogRow) -> Record:
    """A flavor's, an image's or a key pair's record."""
    if isinstance(row, FlavorRow):
        owner, public, body = "", True, codec_catalog.flavor_body(row)
    elif isinstance(row, ImageRow):
        owner, public, body = row.project_id, row.public, codec_catalog.image_body(row)
    else:
        owner, public, body = row.project_id, False, codec_catalog.key_pair_body(row)
    return Record(
        entry_kind(row), row.id, owner, row.version, row.revision, 0, body, row.deleted, public
    )


def host_record(host: Host) -> Record:
    """A host's record."""
    return Record(
        ResourceKind.HOST, host.row.id, "", host.version, host.revision, 0,
        codec_owners.host_body(host.row), host.row.deleted, False, ledger=host.ledger,
    )  # fmt: skip


def project_record(project: Project, usual: QuotaAmounts) -> Record:
    """A project's record, with the limits that hold for it."""
    row = project.row
    return Record(
        ResourceKind.PROJECT, row.id, row.id, row.version, row.revision, 0,
        codec_owners.project_body(row), row.deleted, False,
        quota=(row.limits or usual, project.used),
    )  # fmt: skip


def entries(rows: Sequence[CatalogRow]) -> dict[Key, CatalogRow]:
    """Catalog rows by kind and id."""
    return {(entry_kind(row), row.id): row for row in rows}
