"""Items as the arrays that the SQL function takes.

One tuple per write, in the order of the fields of its composite type.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.conductor.edges.store import codec, codec_catalog, codec_owners
from services.conductor.logic.items import ClaimAct, ClaimChange, Item, RequestKey
from services.conductor.logic.rows import (
    CatalogRow,
    FlavorRow,
    HostRow,
    ImageRow,
    InstanceRow,
    OperationRow,
    ProjectRow,
)
from services.conductor.logic.step_table import USUAL_DEADLINES
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.resources import QuotaAmounts

Write = tuple[Any, ...]


@dataclass(slots=True)
class Writes:
    """The writes of a batch, by table, and the bodies of its rows by (item, kind, id): of two items
    for one row only one is committed, and its record is told with its own body. `shares` is what
    new instances add to each project (instances, vCPUs, MiB, GiB), nothing where only its row or an
    end of one is written; `batches` the requests of the batches that items are of, one per item.
    """

    requests: list[Write] = field(default_factory=list)
    instances: list[Write] = field(default_factory=list)
    operations: list[Write] = field(default_factory=list)
    claims: list[Write] = field(default_factory=list)
    hosts: list[Write] = field(default_factory=list)
    entries: list[Write] = field(default_factory=list)
    projects: list[Write] = field(default_factory=list)
    shares: dict[str, list[int]] = field(default_factory=dict)
    batches: list[Write] = field(default_factory=list)
    bodies: dict[tuple[int, ResourceKind, str], bytes] = field(default_factory=dict)

    def arrays(self) -> tuple[list[Write], ...]:
        """The arguments of commit_items, in order."""
        return (
            self.requests,
            self.instances,
            self.operations,
            self.claims,
            self.hosts,
            self.entries,
            self.projects,
            [(id_, *added) for id_, added in self.shares.items()],
            self.batches,
        )

    def share(self, project_id: str, new: InstanceRow | None) -> None:
        """Counts a new instance, or only has its project locked."""
        added = self.shares.setdefault(project_id, [0, 0, 0, 0])
        if new is not None:
            added[0] += 1
            added[1] += new.resources.vcpus
            added[2] += new.resources.memory_mib
            added[3] += new.resources.disk_gib

    def body(self, row: tuple[int, ResourceKind, str], encoded: bytes) -> bytes:
        """Remembers a row's body beside its write; `row` is (item, kind, id)."""
        self.bodies[row] = encoded
        return encoded


def writes_of(items: Sequence[Item]) -> Writes:
    """Everything that the items write, numbered by item."""
    writes = Writes()
    for n, item in enumerate(items):
        if item.request is not None:
            writes.requests.append(_request(n, item.request))
            if item.request.batch:
                writes.batches.append(_request(n, item.request.of_batch()))
        if item.instance is not None:
            writes.instances.append(_instance(n, item, item.instance, writes))
        for operation in item.operations:
            writes.operations.append(_operation(n, item, operation, writes))
        for change in item.claims:
            writes.claims.append(_claim(n, change))
        if item.host is not None:
            writes.hosts.append(_host(n, item.host))
        if item.entry is not None:
            writes.entries.append(_entry(n, item.entry, writes))
        if item.project is not None:
            writes.projects.append(_project(n, item.project, writes))
            writes.share(item.project.id, None)
    return writes


def entry_kind(row: CatalogRow) -> ResourceKind:
    """Which noun a catalog row is of."""
    if isinstance(row, FlavorRow):
        return ResourceKind.FLAVOR
    return ResourceKind.IMAGE if isinstance(row, ImageRow) else ResourceKind.KEY_PAIR


def _request(n: int, key: RequestKey) -> Write:
    who = (key.project_id, key.caller, key.method, key.request_id)
    return (n, *who, key.fingerprint, key.resource_id, key.operation_id)


def _instance(n: int, item: Item, row: InstanceRow, writes: Writes) -> Write:
    if row.deleted or row.version == 0:
        writes.share(row.project_id, None if row.deleted else row)
    adds_claim = any(change.act is ClaimAct.ADD for change in item.claims)
    body = writes.body((n, ResourceKind.INSTANCE, row.id), codec.instance_body(row))
    return (
        n,
        row.id,
        row.version,
        row.project_id,
        row.name,
        row.standing.state,
        row.standing.task,
        row.power,
        row.host_id,
        row.flavor_id,
        row.image_id,
        row.generation,
        row.epoch,
        row.attempt,
        list(row.excluded_host_ids),
        row.deleted,
        row.resources.vcpus,
        row.resources.memory_mib,
        row.resources.disk_gib,
        adds_claim,
        item.wants,
        codec.spec_of(row).SerializeToString(),
        body,
    )


def _operation(n: int, item: Item, row: OperationRow, writes: Writes) -> Write:
    body = writes.body((n, ResourceKind.OPERATION, row.id), codec.operation_body(row))
    return (
        n,
        row.id,
        row.version,
        row.project_id,
        row.resource_id,
        row.action,
        row.state,
        row.phase,
        row.tries,
        row.finished,
        item.look_again_s,
        body,
        allowed_s(row),
    )


def allowed_s(row: OperationRow) -> float:
    """How long the present phase may last, from its beginning."""
    if row.deadline_at_s:
        return row.deadline_at_s - row.phases[-1][1]
    return USUAL_DEADLINES.of(row.action, row.phase)


def _claim(n: int, change: ClaimChange) -> Write:
    leaving = change.act in (ClaimAct.LEAVE, ClaimAct.CONDEMN)
    role = ClaimRole.LEAVING if leaving else ClaimRole.HOLDER
    amounts = (change.resources.vcpus, change.resources.memory_mib, change.resources.disk_gib)
    number = (change.incarnation, change.sequence)
    return (
        n,
        change.act,
        change.instance_id,
        change.epoch,
        change.host_id,
        role,
        *amounts,
        *number,
        change.discard,
        change.host_edition,
    )


def _host(n: int, row: HostRow) -> Write:
    target = (row.target.vcpus, row.target.memory_mib, row.target.disk_gib)
    machine = (row.machine_id, row.boot_id, row.state, row.incarnation)
    fenced = row.incarnation if row.fenced else 0
    body = codec_owners.host_body(row)
    return (n, row.id, row.seen_edition, *machine, *target, body, fenced, row.deleted)


def _entry(n: int, row: CatalogRow, writes: Writes) -> Write:
    kind = entry_kind(row)
    if isinstance(row, FlavorRow):
        project_id, digest, public, encoded = "", "", True, codec_catalog.flavor_body(row)
    elif isinstance(row, ImageRow):
        project_id, digest, public = row.project_id, row.reference.digest, row.public
        encoded = codec_catalog.image_body(row)
    else:
        project_id, digest, public = row.project_id, row.fingerprint, False
        encoded = codec_catalog.key_pair_body(row)
    body = writes.body((n, kind, row.id), encoded)
    seen = (kind, row.id, row.version)
    return (n, *seen, project_id, row.name, digest, public, row.deleted, body)


def _project(n: int, row: ProjectRow, writes: Writes) -> Write:
    body = writes.body((n, ResourceKind.PROJECT, row.id), codec_owners.project_body(row))
    limits = limits_array(row.limits) if row.limits is not None else [None] * 4
    return (n, row.id, row.version, *limits, row.deleted, body)


def limits_array(limits: QuotaAmounts) -> list[int]:
    """Limits in the order in which SQL has them."""
    return [limits.instances, limits.vcpus, limits.memory_mib, limits.disk_gib]
