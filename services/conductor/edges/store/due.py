"""What comes due by the database's clock: operations to look at, requests to forget.

Owns the pace of looks as SQL; which phases have which pace is the table's (step_table).
"""

from typing import Any

from services.conductor.flows.ports import Due
from services.conductor.logic.step_table import (
    LOOK_AGAIN_FIRST_S,
    LOOK_AGAIN_MAX_S,
    PLACE_AGAIN_S,
    STEADY_PHASES,
    YOUNG_S,
)
from services.domain.operation import Phase

Connection = Any  # asyncpg.Connection is generic in its stubs only

# Takes due operations and sets their next look: soon while they are young or wait for a host (a
# scheduler that comes back is asked at once), then doubling; with jitter, and never past a
# deadline. Nothing stays locked. Source: MECHANICS B3, B5.
TAKE = """
WITH due AS (
    SELECT id FROM operation WHERE NOT finished AND look_again_at <= now()
     ORDER BY look_again_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE operation o SET looks = o.looks + 1, look_again_at = least(
       CASE WHEN o.deadline_at > now() THEN o.deadline_at END,
       now() + make_interval(secs => (0.9 + 0.2 * random()) * CASE
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


async def take(connection: Connection, limit: int) -> list[Due]:
    """Due operations; their next look is moved on."""
    paces = (PLACE_AGAIN_S, LOOK_AGAIN_FIRST_S, LOOK_AGAIN_MAX_S)
    rows = await connection.fetch(TAKE, limit, YOUNG_S, list(STEADY_PHASES), *paces)
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
