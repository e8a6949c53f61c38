"""Rows as they were at an earlier commit, brought back from the change log.

A row that changed since stands in the log as the version before the first of these changes, and is
found by going back from its newest: each record names the revision before it. What has left the
lists since, by its end or by another name, is found by the log's own index. Source: MECHANICS E4.
"""

from dataclasses import dataclass
from typing import Any

from services.conductor.edges.store import conditions
from services.conductor.edges.store.nouns import NOUNS, record
from services.conductor.edges.store.stretch import (
    Arguments,
    Key,
    Stretch,
    Terms,
    check_kept,
    key_of,
)
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Record
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.resources import QuotaAmounts

Connection = Any  # asyncpg.Connection is generic in its stubs only

# From each of the changes $1 back to the first one after $2: what that one changed.
BACK = """
WITH RECURSIVE back AS (
    SELECT c.revision, c.before_revision FROM unnest($1::bigint[]) AS w (revision)
     CROSS JOIN LATERAL (SELECT l.revision, l.before_revision FROM change l
                          WHERE l.revision = w.revision OFFSET 0) c
     UNION
    SELECT c.revision, c.before_revision FROM back b
     CROSS JOIN LATERAL (SELECT l.revision, l.before_revision FROM change l
                          WHERE l.revision = b.before_revision OFFSET 0) c
     WHERE b.before_revision > $2
)
SELECT n.revision AS head, k.revision AS compacted, t.*
  FROM counter n CROSS JOIN compaction k LEFT JOIN (
    SELECT c.kind, c.id, c.project_id, c.version - 1 AS version, c.before_revision AS revision,
           c.before_epoch AS epoch, c.before AS body, false AS deleted, c.public,
           c.before_ledger AS ledger, c.before IS NULL AS unborn
      FROM back b
     CROSS JOIN LATERAL (SELECT l.* FROM change l WHERE l.revision = b.revision OFFSET 0) c
     WHERE coalesce(b.before_revision, 0) <= $2) t ON true
"""

MOVED = """
SELECT n.revision AS head, k.revision AS compacted, m.*
  FROM counter n CROSS JOIN compaction k LEFT JOIN LATERAL (
    SELECT revision, moved_from AS name, id FROM change
     WHERE {where} ORDER BY {order} LIMIT {limit}) m ON true
"""


@dataclass(frozen=True, slots=True)
class Then:
    """A row as it was, and its place in the order."""

    key: Key
    record: Record


async def brought_back(
    connection: Connection, query: Query, rows: list[Any], *, stretch: Stretch, terms: Terms
) -> Stretch:
    """The stretch as it was at the pinned revision, from the rows that stand along it now.

    Looked at after the rows were: what left the lists in between is told twice, never left out.
    Raises OutOfRange (REVISION_COMPACTED).
    """
    at = query.pinned_revision
    gone = await _moved(connection, query, stretch, terms) if _can_leave(query) else []
    newer = [row["revision"] for row in rows if row["revision"] > at]
    then = await _back(connection, [*newer, *(row["revision"] for row in gone)], at, terms.usual)
    found: dict[str, Then] = {}
    for row in rows:
        one = then.get(row["id"]) if row["revision"] > at else record(row, terms.usual)
        if one is None:
            continue
        key = key_of(query, row)
        # One that has another name now is told where it stood, among the gone.
        stood_here = row["revision"] <= at or _name(query, one) == key[0]
        if stood_here and row["matched"]:
            found[one.id] = Then(key, one)
    for row in gone:
        one = then.get(row["id"])
        key = key_of(query, row)
        if one is not None and _name(query, one) == key[0]:
            found[one.id] = Then(key, one)
    stretch.examined += len(gone)
    told = sorted(found.values(), key=lambda t: t.key, reverse=query.descending)
    stretch.found = [(t.key[0], t.record) for t in told if _shown(query, t, stretch.end)]
    return stretch


def _can_leave(query: Query) -> bool:
    no_ends = query.kind in (ResourceKind.OPERATION, ResourceKind.HOST)
    return not (query.id or query.deleted or no_ends)


async def _moved(connection: Connection, query: Query, stretch: Stretch, terms: Terms) -> list[Any]:
    """What has left its place in this stretch since then; the stretch ends where they were not
    looked for any further.
    """
    sql, arguments = moved_statement(query, stretch.end, terms.bounds.pinned)
    rows = await connection.fetch(sql, *arguments)
    check_kept(query.pinned_revision, rows[0]["head"], rows[0]["compacted"])
    rows = [row for row in rows if row["id"] is not None]
    if len(rows) == terms.bounds.pinned:
        stretch.end = key_of(query, rows[-1])
    return rows


def moved_statement(query: Query, end: Key | None, limit: int) -> tuple[str, list[Any]]:
    """The statement for what has left its place behind the query's key, up to `end`."""
    arguments = Arguments()
    scope = NOUNS[query.kind].scope
    where = [
        f"kind = {arguments.place(query.kind.value)}",
        "moved_from IS NOT NULL",
        f"revision > {arguments.place(query.pinned_revision)}",
    ]
    if query.project_id and scope:
        where.append(scope.format(arguments.place(query.project_id)))
    columns = ("moved_from", "id") if query.order is ListOrder.NAME else ("id",)
    beyond, within = ("<", ">=") if query.descending else (">", "<=")
    for key, than in (((query.after_key, query.after_id), beyond), (end, within)):
        if key is not None and key[1]:
            values = [arguments.place(value) for value in key[2 - len(columns) :]]
            where.append(f"({', '.join(columns)}) {than} ({', '.join(values)})")
    order = [f"{column} DESC" if query.descending else column for column in columns]
    sql = MOVED.format(
        where=" AND ".join(where),
        order=", ".join((*order, "revision")),
        limit=arguments.place(limit),
    )
    return sql, arguments


async def _back(
    connection: Connection, revisions: list[int], at: int, usual: QuotaAmounts
) -> dict[str, Record | None]:
    """What was of the things that these revisions changed, None of what was not there yet."""
    if not revisions:
        return {}
    rows = await connection.fetch(BACK, revisions, at)
    check_kept(at, rows[0]["head"], rows[0]["compacted"])
    then: dict[str, Record | None] = {}
    for row in rows:
        # A project may have ended since and been made again: of its lives the one of then counts.
        if row["id"] is not None and then.get(row["id"]) is None:
            then[row["id"]] = None if row["unborn"] else record(row, usual)
    return then


def _name(query: Query, one: Record) -> str:
    if query.order is not ListOrder.NAME:
        return ""
    message: Any = conditions.MESSAGES[query.kind].FromString(one.body)
    name: str = message.name
    return name


def _shown(query: Query, then: Then, end: Key | None) -> bool:
    if end is not None and (then.key < end if query.descending else then.key > end):
        return False
    one = then.record
    if one.deleted and not query.deleted:
        return False
    return conditions.hold(query.kind, query.conditions, one.body)
