"""Guests that no claim stands for, a stretch of guests in each statement. Does not own what is
done about them.
"""

from typing import Any

from services.conductor.logic.audit_facts import UnknownGuest
from services.domain.instance import Power

Connection = Any  # asyncpg.Connection is generic in its stubs only
Key = tuple[str, str, int]

FIRST_ID = "00000000-0000-0000-0000-000000000000"
# In a healthy cloud no guest is unknown, so that a page of them would read all that there are.
GUESTS_MAX = 5000

_OF_ALL = "(host_id, instance_id, epoch) > ($1, $2::uuid, $3::bigint)"
_OF_ONE = "host_id = $1 AND (instance_id, epoch) > ($2::uuid, $3::bigint)"

# The guest with which a stretch ends.
_END = """
SELECT host_id, instance_id, epoch FROM guest WHERE {after}
 ORDER BY host_id, instance_id, epoch OFFSET $4 - 1 LIMIT 1
"""

_UNKNOWN = """
WITH stretch AS MATERIALIZED (
    SELECT * FROM guest WHERE {after} ORDER BY host_id, instance_id, epoch LIMIT $4
)
SELECT g.host_id, g.instance_id, g.epoch, g.power, n.revision AS head,
       coalesce((SELECT max(o.epoch) FROM claim o WHERE o.instance_id = g.instance_id), 0)
           AS newest_epoch,
       extract(epoch FROM g.first_reported_at)::float8 AS first_at_s,
       (SELECT extract(epoch FROM r.reported_at)::float8 FROM inventory r
         WHERE r.host_id = g.host_id) AS reported_at_s
  FROM counter n CROSS JOIN stretch g
 WHERE (SELECT c.role FROM claim c WHERE c.instance_id = g.instance_id AND c.epoch = g.epoch
           AND c.host_id = g.host_id) IS NULL
   AND NOT (SELECT h.deleted FROM host h WHERE h.id = g.host_id)
 ORDER BY g.host_id, g.instance_id, g.epoch LIMIT $5
"""

END_OF_ALL, END_OF_ONE = _END.format(after=_OF_ALL), _END.format(after=_OF_ONE)
OF_ALL, OF_ONE = _UNKNOWN.format(after=_OF_ALL), _UNKNOWN.format(after=_OF_ONE)


async def stretch(
    connection: Connection, host_id: str, after: Key, limit: int
) -> tuple[list[UnknownGuest], Key | None]:
    """The first `limit` of a stretch, of one host or (with "") of all, and after which guest the
    next one begins, None where there is none.
    """
    end, unknown = (END_OF_ONE, OF_ONE) if host_id else (END_OF_ALL, OF_ALL)
    place = (host_id or after[0], after[1] or FIRST_ID, after[2])
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        last = await connection.fetchrow(end, *place, GUESTS_MAX)
        rows = await connection.fetch(unknown, *place, GUESTS_MAX, limit)
    key = (last["host_id"], str(last["instance_id"]), last["epoch"]) if last else None
    return [_guest(row) for row in rows], key


def _guest(row: Any) -> UnknownGuest:
    return UnknownGuest(
        host_id=row["host_id"],
        instance_id=str(row["instance_id"]),
        epoch=row["epoch"],
        power=Power(row["power"]),
        newest_epoch=row["newest_epoch"],
        head_revision=row["head"],
        first_reported_at_s=row["first_at_s"],
        reported_at_s=row["reported_at_s"],
    )
