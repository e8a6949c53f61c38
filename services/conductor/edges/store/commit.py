"""The one commit path from this side: a batch in one call, what came of it back to outcomes."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from services.conductor.edges.store.writes import Writes, entry_kind, writes_of
from services.conductor.logic.rows import (
    Committed,
    ImageRow,
    Item,
    Outcome,
    Record,
    Refusal,
    Refused,
)
from services.domain.kinds import ResourceKind

COMMIT = """
SELECT verdicts, changes FROM commit_items(
    $1::request_write[], $2::instance_write[], $3::operation_write[], $4::claim_write[],
    $5::host_write[], $6::catalog_write[])
"""

# Of several reasons against one item the heaviest is told: what was done before, then what can
# never be done.
_WEIGHT = {
    Refusal.MALFORMED: 0,
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
    """Commits the items in one round trip.

    If a last guard of the database stopped the batch, or a value that it cannot hold, in halves,
    down to the one item that is at fault. Source: MECHANICS A1.
    """
    writes = writes_of(items)
    try:
        row = await connection.fetchrow(COMMIT, *writes.arrays())
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        if len(items) == 1:
            malformed = isinstance(error, asyncpg.DataError)
            return [Refused(Refusal.MALFORMED if malformed else Refusal.STALE)]
        half = len(items) // 2
        return [*await commit(connection, items[:half]), *await commit(connection, items[half:])]
    assert row is not None
    refused = _refused(row["verdicts"])
    changed = {(change["kind"], change["id"]): change for change in row["changes"]}
    return [
        refused[n] if n in refused else Committed(_records((n, item), changed, writes))
        for n, item in enumerate(items)
    ]


def _refused(verdicts: Sequence[Any]) -> dict[int, Refused]:
    refused: dict[int, Refused] = {}
    for verdict in verdicts:
        found = Refused(
            Refusal(verdict["reason"]), verdict["resource_id"] or "", verdict["operation_id"] or ""
        )
        known = refused.get(verdict["item"])
        if known is None or _WEIGHT[found.refusal] > _WEIGHT[known.refusal]:
            refused[verdict["item"]] = found
    return refused


def _records(
    numbered: tuple[int, Item], changed: dict[tuple[int, str], Any], writes: Writes
) -> tuple[Record, ...]:
    n, item = numbered
    rows: list[tuple[ResourceKind, str, str, bool, bool]] = []
    if (i := item.instance) is not None:
        rows.append((ResourceKind.INSTANCE, i.id, i.project_id, i.deleted, False))
    rows += [(ResourceKind.OPERATION, o.id, o.project_id, False, False) for o in item.operations]
    if (e := item.entry) is not None:
        owner, public = (e.project_id, e.public) if isinstance(e, ImageRow) else ("", True)
        rows.append((entry_kind(e), e.id, owner, e.deleted, public))
    touched = {change.host_id for change in item.claims} | ({item.host.id} if item.host else set())
    # Several items of one commit may touch a host; its one change is told by the first.
    rows += [
        (ResourceKind.HOST, host_id, "", False, False)
        for host_id in touched
        if (ResourceKind.HOST, host_id) in changed
    ]
    records = [_record(changed[row[:2]], row, writes.bodies.get((n, *row[:2]))) for row in rows]
    for host_id in touched:
        changed.pop((ResourceKind.HOST, host_id), None)
    return tuple(sorted(records, key=lambda record: record.revision))


def _record(
    change: Any, row: tuple[ResourceKind, str, str, bool, bool], written: bytes | None
) -> Record:
    kind, id_, project_id, deleted, public = row
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
        ledger=tuple(change["ledger"] or ()),
    )
