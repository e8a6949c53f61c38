"""The one commit path from this side: a batch in one call, what came of it back to outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.conductor.edges.store import codec_owners
from services.conductor.edges.store.codec_owners import limits_of, project_from, used_of
from services.conductor.edges.store.trouble import is_unsendable
from services.conductor.edges.store.writes import Writes, entry_kind, limits_array, writes_of
from services.conductor.logic.items import (
    Before,
    ClaimAct,
    Committed,
    Item,
    Outcome,
    Record,
    Refusal,
    Refused,
)
from services.conductor.logic.rows import ClaimRow, FlavorRow, ImageRow
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.resources import QuotaAmounts

_CALL = """
SELECT verdicts, changes FROM {}(
    $1::request_write[], $2::instance_write[], $3::operation_write[], $4::claim_write[],
    $5::host_write[], $6::catalog_write[], $7::project_write[], $8::project_share[],
    $9::request_write[], $10::bigint[])
"""
COMMIT = _CALL.format("commit_items")
# The same, and nothing of it is kept.
CHECK = _CALL.format("check_items")

GUARDS = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)

# Of several reasons against one item the heaviest is told: what was done before, then what can
# never be done.
_WEIGHT = {
    Refusal.MALFORMED: 0,
    Refusal.STALE: 0,
    Refusal.NO_ROOM: 1,
    Refusal.NO_QUOTA: 1,
    Refusal.NOT_EMPTY: 1,
    Refusal.NAME_TAKEN: 1,
    Refusal.DUPLICATE: 2,
    Refusal.NO_CLAIM: 3,
    Refusal.SUPERSEDED: 4,
    Refusal.REQUEST_ID_REUSED: 5,
    Refusal.REPLAYED: 5,
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a batch is handed over: the statement, and the limits of projects without their own."""

    sql: str
    usual: QuotaAmounts


async def commit(
    connection: "asyncpg.Connection[asyncpg.Record]", items: Sequence[Item], way: Way
) -> list[Outcome]:
    """Commits the items in one round trip, or only says what would come of them.

    If a last guard of the database stopped the batch, or a value that it cannot hold, in halves,
    down to the one item that is at fault. Source: MECHANICS A1.
    """
    writes = writes_of(items)
    try:
        row = await connection.fetchrow(way.sql, *writes.arrays(), limits_array(way.usual))
    except (*GUARDS, asyncpg.InterfaceError) as error:
        if isinstance(error, asyncpg.InterfaceError) and not is_unsendable(error):
            raise
        if len(items) == 1:
            malformed = not isinstance(error, asyncpg.IntegrityConstraintViolationError)
            return [Refused(Refusal.MALFORMED if malformed else Refusal.STALE)]
        half = len(items) // 2
        first = await commit(connection, items[:half], way)
        return [*first, *await commit(connection, items[half:], way)]
    assert row is not None
    refused = _refused(row["verdicts"])
    changed = {(change["kind"], change["id"]): change for change in row["changes"]}
    # Before the records are made: that of a host is taken out by the first item that touched it.
    claims = [() if n in refused else _claims(item, changed) for n, item in enumerate(items)]
    return [
        refused[n]
        if n in refused
        else Committed(_records((n, item), changed, writes, usual=way.usual), claims[n])
        for n, item in enumerate(items)
    ]


def _refused(verdicts: Sequence[Any]) -> dict[int, Refused]:
    refused: dict[int, Refused] = {}
    for verdict in verdicts:
        found = _refusal(verdict)
        known = refused.get(verdict["item"])
        if known is None or _WEIGHT[found.refusal] > _WEIGHT[known.refusal]:
            refused[verdict["item"]] = found
    return refused


def _refusal(verdict: Any) -> Refused:
    ids = (verdict["resource_id"] or "", verdict["operation_id"] or "")
    if verdict["ledger"] is None:
        return Refused(Refusal(verdict["reason"]), *ids)
    version, *ledger = verdict["ledger"]
    project = project_from(ids[0], verdict["body"], ledger, version=version, revision=0)
    return Refused(Refusal(verdict["reason"]), *ids, project=project)


def _records(
    numbered: tuple[int, Item],
    changed: dict[tuple[int, str], Any],
    writes: Writes,
    *,
    usual: QuotaAmounts,
) -> tuple[Record, ...]:
    n, item = numbered
    rows = _rows(item)
    gone = {item.host.id} if item.host and item.host.deleted else set()
    touched = {change.host_id for change in item.claims} | ({item.host.id} if item.host else set())
    # Several items of one commit may touch a host; its one change is told by the first.
    rows += [
        (ResourceKind.HOST, host_id, "", host_id in gone, False)
        for host_id in touched
        if (ResourceKind.HOST, host_id) in changed
    ]
    records = [
        _record(changed[row[:2]], row, writes.bodies.get((n, *row[:2])), usual=usual)
        for row in rows
    ]
    for host_id in touched:
        changed.pop((ResourceKind.HOST, host_id), None)
    return tuple(sorted(records, key=lambda record: record.revision))


def _claims(item: Item, changed: dict[tuple[int, str], Any]) -> tuple[ClaimRow, ...]:
    """The claims that an item added, with their hosts as the commit found them."""
    return tuple(
        ClaimRow(
            change.instance_id,
            epoch := changed[ResourceKind.INSTANCE, change.instance_id]["epoch"],
            change.host_id,
            ClaimRole.HOLDER,
            epoch,
            *codec_owners.liveness_from(changed[ResourceKind.HOST, change.host_id]["body"]),
        )
        for change in item.claims
        if change.act is ClaimAct.ADD
    )


def _rows(item: Item) -> list[tuple[ResourceKind, str, str, bool, bool]]:
    """What an item writes but for hosts: kind, id, project, whether deleted, whether public."""
    rows: list[tuple[ResourceKind, str, str, bool, bool]] = []
    if (i := item.instance) is not None:
        rows.append((ResourceKind.INSTANCE, i.id, i.project_id, i.deleted, False))
    rows += [(ResourceKind.OPERATION, o.id, o.project_id, False, False) for o in item.operations]
    if (e := item.entry) is not None:
        owner = "" if isinstance(e, FlavorRow) else e.project_id
        public = e.public if isinstance(e, ImageRow) else isinstance(e, FlavorRow)
        rows.append((entry_kind(e), e.id, owner, e.deleted, public))
    if (p := item.project) is not None:
        rows.append((ResourceKind.PROJECT, p.id, p.id, p.deleted, False))
    return rows


def _record(
    change: Any,
    row: tuple[ResourceKind, str, str, bool, bool],
    written: bytes | None,
    *,
    usual: QuotaAmounts,
) -> Record:
    kind, id_, project_id, deleted, public = row
    ledger = change["ledger"]
    return Record(
        kind=kind,
        id=id_,
        project_id=project_id,
        version=change["version"],
        revision=change["revision"],
        epoch=change["epoch"],
        body=change["body"] if written is None else written,
        deleted=deleted,
        public=public,
        ledger=tuple(ledger) if kind is ResourceKind.HOST else (),
        before=before_of(kind, change),
        quota=quota_of(ledger, usual) if kind is ResourceKind.PROJECT else None,
    )


def before_of(kind: ResourceKind, change: Any) -> Before | None:
    """The version before a change, from a row of the log or what a commit tells."""
    if change["before"] is None:
        return None
    ledger = tuple(change["before_ledger"]) if kind is ResourceKind.HOST else ()
    return Before(change["before"], change["before_revision"], change["before_epoch"], ledger)


def quota_of(
    ledger: Sequence[int | None], usual: QuotaAmounts
) -> tuple[QuotaAmounts, QuotaAmounts]:
    """Limits and use from a project's ledger; where it has no limits of its own, the usual ones."""
    return limits_of(ledger) or usual, used_of(ledger)
