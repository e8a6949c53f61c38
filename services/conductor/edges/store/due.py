"""What comes due by the database's clock: operations to look at, requests to forget.

Owns the pace of looks as SQL; `logic.paces` says it in words, and which phases are steady is the
table's (step_table).
"""

from typing import Any

from services.conductor.flows.ports import Due
from services.conductor.logic.paces import Paces
from services.conductor.logic.step_table import STEADY_PHASES
from services.domain.operation import Phase

Connection = Any  # asyncpg.Connection is generic in its stubs only

# Takes due operations and sets their next look: soon while they are young or wait for a host (a
# scheduler that comes back is asked at once), then doubling; with jitter, and never past a
# deadline. Who comes again after $7 takes what will be due by then, so that no look is late.
# Nothing stays locked. Source: MECHANICS B3, B5.
TAKE = """
WITH due AS (
    SELECT id FROM operation
     WHERE NOT finished AND look_again_at <= now() + make_interval(secs => $7)
     ORDER BY look_again_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE operation o SET looks = o.looks + 1, look_again_at = least(
       CASE WHEN o.deadline_at > now() THEN o.deadline_at END,
       now() + make_interval(secs => (0.9 + 0.1 * random()) * CASE
           WHEN o.phase = ANY ($3::smallint[]) THEN $4::float8
           WHEN now() - o.created_at < make_interval(secs => $2) THEN $5::float8
           ELSE least($6::float8, $5::float8 * 2.0::float8 ^ least(o.looks, 10)) END))
  FROM due WHERE o.id = due.id
RETURNING o.id, o.resource_id, o.phase, o.looks,
          extract(epoch FROM now() - o.created_at)::float8 AS age_s,
          o.deadline_at <= now() AS overdue
"""


# The row of a batch goes only when none of its items is left: their replays are judged by it.
SWEEP = """
WITH old AS (
    SELECT r.ctid FROM request r
     WHERE r.created_at < now() - make_interval(secs => $1)
       AND NOT EXISTS (SELECT FROM request i
                        WHERE i.request_id = r.request_id AND i.method LIKE '%#%'
                          AND i.project_id = r.project_id AND i.caller = r.caller
                          AND split_part(i.method, '#', 1) = r.method)
     ORDER BY r.created_at LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM request WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT count(*) FROM gone
"""


async def take(connection: Connection, limit: int, ahead_s: float, paces: Paces) -> list[Due]:
    """Operations that are due `ahead_s` from now; their next look is moved on."""
    rows = await connection.fetch(
        TAKE, limit, paces.young_s, list(STEADY_PHASES), paces.place_s, paces.first_s,
        paces.most_s, ahead_s,
    )  # fmt: skip
    return [
        Due(
            str(row["id"]),
            row["resource_id"],
            Phase(row["phase"]),
            row["looks"],
            row["age_s"],
            row["overdue"],
        )
        for row in rows
    ]


async def sweep(connection: Connection, keep_s: float, limit: int) -> int:
    """How many old requests were forgotten, at most `limit`."""
    return int(await connection.fetchval(SWEEP, keep_s, limit))
