"""The change log: read by stretches, kept at its size.

Owns the way back from the log's rows to records. Does not own what is logged: the commit does.
"""

from typing import Any

import asyncpg

from services.conductor.edges.store.commit import before_of, quota_of
from services.conductor.flows.ports import ChangePage
from services.conductor.logic.items import Record
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts
from services.runtime.log import logger

Connection = Any  # asyncpg.Connection is generic in its stubs only

# At least one change, and no more of them than a message can carry.
CHANGES = """
SELECT n.revision AS head, k.revision AS compacted, c.*
  FROM counter n CROSS JOIN compaction k LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT l.*, sum(octet_length(l.body) + coalesce(octet_length(l.before), 0))
                       OVER (ORDER BY l.revision)
                    - octet_length(l.body) - coalesce(octet_length(l.before), 0) AS bytes_before
          FROM (SELECT * FROM change
                 WHERE revision > $1 AND $1 >= k.revision ORDER BY revision LIMIT $2) l) m
     WHERE bytes_before < $3) c ON true
 ORDER BY c.revision
"""
CHANGES_BYTES_MAX = 4 * 1024 * 1024


async def changes(
    connection: Connection, after_revision: int, limit: int, *, usual: QuotaAmounts
) -> ChangePage:
    """The change log above a revision, as much as fits a message; nothing where it is not whole."""
    rows = await connection.fetch(CHANGES, after_revision, limit, CHANGES_BYTES_MAX)
    records = [_change(row, usual) for row in rows if row["kind"] is not None]
    # A partition may be dropped between the statement's snapshot and its look at it.
    whole = not records or records[0].revision == after_revision + 1
    return ChangePage(tuple(records) if whole else (), rows[0]["head"], rows[0]["compacted"])


def _change(row: Any, usual: QuotaAmounts) -> Record:
    kind = ResourceKind(row["kind"])
    return Record(
        kind=kind,
        id=row["id"],
        project_id=row["project_id"],
        version=row["version"],
        revision=row["revision"],
        epoch=row["epoch"],
        body=row["body"],
        deleted=row["deleted"],
        public=row["public"],
        ledger=tuple(row["ledger"]) if kind is ResourceKind.HOST else (),
        before=before_of(kind, row),
        quota=quota_of(row["ledger"], usual) if kind is ResourceKind.PROJECT else None,
    )


async def tend(connection: Connection, keep_s: float, bytes_max: int, *, width: int) -> None:
    """Makes partitions ahead, moves the compaction revision, and in a later commit drops what lies
    below it. Source: MECHANICS E5.
    """
    steps: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("SELECT log_ahead($1)", (width,)),
        ("SELECT log_compact($1, $2)", (keep_s, bytes_max)),
        ("SELECT log_drop()", ()),
    )
    for sql, arguments in steps:
        try:
            async with connection.transaction():
                # Others queue up behind this: it waits for readers only a moment, and comes again.
                await connection.execute("SET LOCAL lock_timeout = '250ms'")
                await connection.execute(sql, *arguments)
        except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError) as error:
            # Or commits were faster than the partition that was made for them.
            logger().info("the change log is tended later", step=sql, error=repr(error))
