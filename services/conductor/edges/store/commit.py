"""The one commit path from this side: items to arrays, one call, verdicts and changes back to outcomes."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from services.conductor.edges.store import codec
from services.conductor.logic.rows import (
    CatalogRow,
    Committed,
    FlavorRow,
    HostRow,
    ImageRow,
    InstanceRow,
    Item,
    OperationRow,
    Outcome,
    Record,
    Refusal,
    Refused,
)
from services.domain.kinds import ClaimRole, ResourceKind

COMMIT = """
SELECT verdicts, changes FROM commit_items(
    $1::request_write[], $2::instance_write[], $3::operation_write[], $4::claim_write[], $5::host_write[],
    $6::catalog_write[])
"""

# Of several reasons against one item the heaviest is told: what was done before, then what can never be done.
_WEIGHT = {
    Refusal.STALE: 0,
    Refusal.NO_ROOM: 1,
    Refusal.NAME_TAKEN: 1,
    Refusal.DUPLICATE: 2,
    Refusal.NO_CLAIM: 3,
    Refusal.SUPERSEDED: 4,
    Refusal.REQUEST_ID_REUSED: 5,
    Refusal.REPLAYED: 5,
}


async def commit(
    connection: "asyncpg.Connection[asyncpg.Record]", items: Sequence[Item]
) -> list[Outcome]:
    """Commits the items in one round trip; one by one if a last guard of the database stopped the batch."""
    try:
        row = await connection.fetchrow(COMMIT, *_arrays(items))
    except asyncpg.IntegrityConstraintViolationError:
        if len(items) == 1:
            return [Refused(Refusal.STALE)]
        return [(await commit(connection, [item]))[0] for item in items]
    assert row is not None
    return _outcomes(items, row["verdicts"], row["changes"])


def _arrays(items: Sequence[Item]) -> tuple[list[tuple[Any, ...]], ...]:
    requests, instances, operations, claims, hosts, entries = [], [], [], [], [], []
    for n, item in enumerate(items):
        if (r := item.request) is not None:
            requests.append(
                (n, r.project_id, r.caller, r.method, r.request_id, r.fingerprint, r.resource_id, r.operation_id)
            )  # fmt: skip
        if item.instance is not None:
            adds = any(c.act == 1 for c in item.claims)
            instances.append(_instance(n, item.instance, adds, item.wants))
        operations += [_operation(n, o, item.look_again_s) for o in item.operations]
        for c in item.claims:
            role = ClaimRole.LEAVING if c.act == 2 else ClaimRole.HOLDER
            claims.append(
                (n, c.act, c.instance_id, c.epoch, c.host_id, role, c.resources.vcpus, c.resources.memory_mib,
                 c.resources.disk_gib, c.incarnation, c.sequence)
            )  # fmt: skip
        if item.host is not None:
            hosts.append(_host(n, item.host))
        if item.entry is not None:
            entries.append(_entry(n, item.entry))
    return requests, instances, operations, claims, hosts, entries


def _instance(n: int, row: InstanceRow, adds_claim: bool, wants: bool) -> tuple[Any, ...]:
    return (
        n, row.id, row.version, row.project_id, row.name, row.standing.state, row.standing.task, row.power,
        row.host_id, row.flavor_id, row.image_id, row.generation, row.epoch, row.attempt,
        list(row.excluded_host_ids), row.deleted, adds_claim, wants,
        codec.spec_of(row).SerializeToString(), codec.instance_body(row),
    )  # fmt: skip


def _operation(n: int, row: OperationRow, look_again_s: float) -> tuple[Any, ...]:
    return (
        n, row.id, row.version, row.project_id, row.resource_id, row.action, row.state, row.phase, row.tries,
        row.finished, look_again_s, codec.operation_body(row),
    )  # fmt: skip


def _host(n: int, row: HostRow) -> tuple[Any, ...]:
    # The incarnation that was read is the one before for a greeting, the same for UP and DOWN.
    return (
        n, row.id, row.seen_incarnation, row.machine_id, row.boot_id, row.state, row.incarnation,
        row.target.vcpus, row.target.memory_mib, row.target.disk_gib, codec.host_body(row),
    )  # fmt: skip


def entry_kind(row: CatalogRow) -> ResourceKind:
    """Which noun a catalog row is of."""
    return ResourceKind.FLAVOR if isinstance(row, FlavorRow) else ResourceKind.IMAGE


def _entry(n: int, row: CatalogRow) -> tuple[Any, ...]:
    if isinstance(row, FlavorRow):
        kind, project, digest, public, body = ResourceKind.FLAVOR, "", "", True, codec.flavor_body(row)
    else:
        kind, project, digest, public, body = (
            ResourceKind.IMAGE, row.project_id, row.reference.digest, row.public, codec.image_body(row)
        )  # fmt: skip
    return (n, kind, row.id, row.version, project, row.name, digest, public, row.deleted, body)


def _outcomes(items: Sequence[Item], verdicts: Sequence[Any], changes: Sequence[Any]) -> list[Outcome]:
    changed = {(change["kind"], change["id"]): change for change in changes}
    refused: dict[int, Refused] = {}
    for verdict in verdicts:
        found = Refused(
            Refusal(verdict["reason"]), verdict["resource_id"] or "", verdict["operation_id"] or ""
        )
        known = refused.get(verdict["item"])
        if known is None or _WEIGHT[found.refusal] > _WEIGHT[known.refusal]:
            refused[verdict["item"]] = found
    return [
        refused[n] if n in refused else Committed(_records(item, changed))
        for n, item in enumerate(items)
    ]


def _records(item: Item, changed: dict[tuple[int, str], Any]) -> tuple[Record, ...]:
    records = []
    if (i := item.instance) is not None:
        body = codec.instance_body(i)
        records.append(_record(changed[1, i.id], i.project_id, body, i.deleted, False))
    for o in item.operations:
        records.append(_record(changed[2, o.id], o.project_id, codec.operation_body(o), False, False))
    if (e := item.entry) is not None:
        kind = entry_kind(e)
        if isinstance(e, ImageRow):
            records.append(_record(changed[kind, e.id], e.project_id, codec.image_body(e), e.deleted, e.public))
        else:
            records.append(_record(changed[kind, e.id], "", codec.flavor_body(e), e.deleted, True))
    touched = {c.host_id for c in item.claims} | ({item.host.id} if item.host else set())
    for host_id in sorted(touched):
        # Several items of one commit may touch a host; its one change is told by the first.
        if (change := changed.pop((5, host_id), None)) is not None:
            records.append(_record(change, "", change["body"], False, False))
    return tuple(sorted(records, key=lambda record: record.revision))


def _record(change: Any, project_id: str, body: bytes, deleted: bool, public: bool) -> Record:
    return Record(
        kind=ResourceKind(change["kind"]),
        id=change["id"],
        project_id=project_id,
        version=change["version"],
        revision=change["revision"],
        epoch=change["epoch"],
        body=body,
        deleted=deleted,
        public=public,
        ledger=tuple(change["ledger"] or ()),
    )
