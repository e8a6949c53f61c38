"""Facts for audits, and what hosts say that they have. Each question is one statement, or two in
one snapshot. Does not own what differs (logic/audit).
"""

from collections.abc import Sequence
from typing import Any

import asyncpg

from services.conductor.edges.store.unknown import FIRST_ID
from services.conductor.flows.audit_ports import Inventory
from services.conductor.logic.audit_facts import (
    ClaimFact,
    GuestFact,
    Heard,
    HostFact,
    HostLook,
    InstanceFact,
    OperationFact,
    ProjectFact,
    Report,
)
from services.domain.ids import is_row_id
from services.domain.instance import Power, State, Task
from services.domain.kinds import ClaimRole, HostState
from services.domain.operation import OperationAction

Connection = Any  # asyncpg.Connection is generic in its stubs only

KEEP = """
SELECT keep_inventory($1, $2, $3, $4, $5, $6::uuid[], $7::bigint[], $8::bigint[], $9::smallint[])
"""

# Everything that is beside a row is read by a look for that row alone: a join may as well read all
# there is, since no plan knows how short a page will be.
_LEDGERS = """
SELECT h.id, ARRAY[h.used_vcpus, h.used_memory_mib, h.used_disk_gib, h.claim_count] AS used,
       (SELECT ARRAY[coalesce(sum(c.vcpus), 0), coalesce(sum(c.memory_mib), 0),
                     coalesce(sum(c.disk_gib), 0), count(*)]::bigint[]
          FROM claim c WHERE c.host_id = h.id) AS claimed
"""
HOST = f"{_LEDGERS} FROM host h WHERE h.id = $1"
HOSTS = f"{_LEDGERS} FROM host h WHERE h.id > $1 ORDER BY h.id LIMIT $2"

# A project that is nowhere but in instances uses nothing, by its ledger. Who has instances is found
# by steps from one project's first to the next one's.
PROJECTS = """
WITH RECURSIVE owner (id, place) AS (
    (SELECT project_id, 1 FROM instance
      WHERE NOT deleted AND project_id > $1 ORDER BY project_id LIMIT 1)
    UNION ALL
    SELECT (SELECT i.project_id FROM instance i WHERE NOT i.deleted AND i.project_id > o.id
             ORDER BY i.project_id LIMIT 1), o.place + 1
      FROM owner o WHERE o.id IS NOT NULL AND o.place < $2
), page AS (
    SELECT k.id FROM (
        (SELECT id FROM project WHERE id > $1 ORDER BY id LIMIT $2)
        UNION (SELECT id FROM owner WHERE id IS NOT NULL)) k
     ORDER BY k.id LIMIT $2
)
SELECT k.id,
       coalesce((SELECT ARRAY[p.used_vcpus, p.used_memory_mib, p.used_disk_gib, p.used_instances]
                   FROM project p WHERE p.id = k.id), '{0, 0, 0, 0}') AS used,
       (SELECT ARRAY[coalesce(sum(i.vcpus), 0), coalesce(sum(i.memory_mib), 0),
                     coalesce(sum(i.disk_gib), 0), count(*)]::bigint[]
          FROM instance i WHERE i.project_id = k.id AND NOT i.deleted) AS living
  FROM page k ORDER BY k.id
"""

INSTANCES = """
SELECT i.id, i.project_id, i.state, i.task, i.host_id, i.epoch, c.host_id AS holder_host,
       c.epoch AS holder_epoch,
       (SELECT o.id FROM operation o WHERE o.resource_id = i.id::text AND NOT o.finished)
           AS operation_id
  FROM (SELECT * FROM instance WHERE NOT deleted AND id > $1::uuid ORDER BY id LIMIT $2) i
  LEFT JOIN LATERAL (SELECT * FROM claim WHERE instance_id = i.id AND role = $3 LIMIT 1) c ON true
 ORDER BY i.id
"""

CLAIMS = """
SELECT c.instance_id, c.epoch, c.host_id, c.role, i.project_id, i.state,
       i.host_id AS instance_host, i.epoch AS instance_epoch
  FROM (SELECT * FROM claim WHERE (instance_id, epoch) > ($1::uuid, $2::bigint)
         ORDER BY instance_id, epoch LIMIT $3) c
  LEFT JOIN LATERAL (SELECT * FROM instance WHERE id = c.instance_id LIMIT 1) i ON true
 ORDER BY c.instance_id, c.epoch
"""

# By resource, of which each has one at most: by id they would stand among all that are finished.
OPERATIONS = """
SELECT o.id, o.project_id, o.resource_id, o.action, i.state, i.task,
       extract(epoch FROM now() - o.look_again_at)::float8 AS look_late_s,
       extract(epoch FROM now() - o.deadline_at)::float8 AS late_s
  FROM (SELECT * FROM operation WHERE NOT finished AND resource_id > $1
         ORDER BY resource_id LIMIT $2) o
  LEFT JOIN LATERAL (
       SELECT state, task FROM instance
        WHERE id = CASE WHEN o.resource_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                        THEN o.resource_id::uuid END LIMIT 1) i ON true
 ORDER BY o.resource_id
"""

HEARD = """
SELECT h.id, h.state, h.incarnation, n.revision AS head, r.incarnation AS told_incarnation,
       r.as_of_revision, r.cut_short, extract(epoch FROM now() - r.reported_at)::float8 AS age_s
  FROM counter n CROSS JOIN host h
  LEFT JOIN LATERAL (SELECT * FROM inventory WHERE host_id = h.id LIMIT 1) r ON true
 WHERE h.id = ANY ($1::text[]) AND NOT h.deleted ORDER BY h.id
"""

GUESTS = """
SELECT k.*, i.project_id, i.state, i.task, i.power AS known_power, i.version,
       (SELECT max(o.epoch) FROM claim o WHERE o.instance_id = k.instance_id) AS newest_epoch
  FROM (SELECT host_id, instance_id, epoch, c.role, c.discard, g.power, g.applied_generation,
               extract(epoch FROM now() - c.discarded_at)::float8 AS discarded_s
          FROM (SELECT * FROM claim WHERE host_id = ANY ($1::text[])) c
          FULL JOIN (SELECT * FROM guest WHERE host_id = ANY ($1::text[])) g
         USING (host_id, instance_id, epoch)) k
  LEFT JOIN LATERAL (SELECT * FROM instance WHERE id = k.instance_id LIMIT 1) i ON true
 ORDER BY k.host_id, k.instance_id, k.epoch
"""

OF_INSTANCES = frozenset(a for a in OperationAction if a.name.endswith("_INSTANCE"))


async def keep(connection: Connection, inventory: Inventory) -> bool:
    """Keeps a report; whether it is of the live incarnation."""
    told = [guest for guest in inventory.guests if is_row_id(guest.instance_id)]
    try:
        kept = await connection.fetchval(
            KEEP,
            inventory.host_id,
            inventory.incarnation,
            inventory.number,
            inventory.as_of_revision,
            inventory.cut_short,
            [guest.instance_id for guest in told],
            [guest.epoch for guest in told],
            [guest.applied_generation for guest in told],
            [guest.power.value for guest in told],
        )
    except asyncpg.ForeignKeyViolationError:
        # The host was removed in between.
        return False
    return bool(kept)


async def hosts(
    connection: Connection, after: str, limit: int, host_id: str = ""
) -> list[HostFact]:
    """Ledgers."""
    found = connection.fetch(HOST, host_id) if host_id else connection.fetch(HOSTS, after, limit)
    return [HostFact(r["id"], tuple(r["used"]), tuple(r["claimed"])) for r in await found]


async def projects(connection: Connection, after: str, limit: int) -> list[ProjectFact]:
    """Quotas."""
    rows = await connection.fetch(PROJECTS, after, limit)
    return [ProjectFact(r["id"], tuple(r["used"]), tuple(r["living"])) for r in rows]


async def instances(connection: Connection, after: str, limit: int) -> list[InstanceFact]:
    """Instances with their holders and operations."""
    rows = await connection.fetch(INSTANCES, after or FIRST_ID, limit, ClaimRole.HOLDER)
    return [
        InstanceFact(
            id=str(r["id"]),
            project_id=r["project_id"],
            state=State(r["state"]),
            task=Task(r["task"]),
            host_id=r["host_id"],
            epoch=r["epoch"],
            holder=None if r["holder_host"] is None else (r["holder_host"], r["holder_epoch"]),
            operation_id=str(r["operation_id"] or ""),
        )
        for r in rows
    ]


async def claims(connection: Connection, after: tuple[str, int], limit: int) -> list[ClaimFact]:
    """Claims with their instances."""
    rows = await connection.fetch(CLAIMS, after[0] or FIRST_ID, after[1], limit)
    return [
        ClaimFact(
            instance_id=str(r["instance_id"]),
            epoch=r["epoch"],
            host_id=r["host_id"],
            role=ClaimRole(r["role"]),
            project_id=r["project_id"] or "",
            state=_state(r["state"]),
            instance_host_id=r["instance_host"] or "",
            instance_epoch=r["instance_epoch"] or 0,
        )
        for r in rows
    ]


async def operations(connection: Connection, after: str, limit: int) -> list[OperationFact]:
    """Unfinished operations with their instances."""
    rows = await connection.fetch(OPERATIONS, after, limit)
    return [
        OperationFact(
            id=str(r["id"]),
            project_id=r["project_id"],
            resource_id=r["resource_id"],
            of_instance=OperationAction(r["action"]) in OF_INSTANCES,
            look_late_s=r["look_late_s"],
            late_s=r["late_s"],
            state=_state(r["state"]),
            task=_task(r["task"]),
        )
        for r in rows
    ]


async def heard(connection: Connection, host_ids: Sequence[str]) -> list[Heard]:
    """Hosts and when they last told what they have."""
    return [Heard(*_said(row)) for row in await connection.fetch(HEARD, list(host_ids))]


async def looks(connection: Connection, host_ids: Sequence[str]) -> list[HostLook]:
    """Hosts with their claims and guests, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(HEARD, list(host_ids))
        found = await connection.fetch(GUESTS, [row["id"] for row in rows])
    guests: dict[str, list[GuestFact]] = {row["id"]: [] for row in rows}
    for row in found:
        guests[row["host_id"]].append(_guest(row))
    return [HostLook(*_said(row), tuple(guests[row["id"]])) for row in rows]


def _said(row: Any) -> tuple[str, HostState, int, int, Report | None]:
    told = row["told_incarnation"]
    report = None
    if told is not None:
        report = Report(told, row["as_of_revision"], row["cut_short"], row["age_s"])
    return row["id"], HostState(row["state"]), row["incarnation"], row["head"], report


def _guest(row: Any) -> GuestFact:
    return GuestFact(
        instance_id=str(row["instance_id"]),
        epoch=row["epoch"],
        role=None if row["role"] is None else ClaimRole(row["role"]),
        discard=bool(row["discard"]),
        discarded_s=row["discarded_s"] or 0.0,
        power=None if row["power"] is None else Power(row["power"]),
        applied_generation=row["applied_generation"] or 0,
        project_id=row["project_id"] or "",
        state=_state(row["state"]),
        task=_task(row["task"]),
        known_power=None if row["known_power"] is None else Power(row["known_power"]),
        version=row["version"] or 0,
        newest_epoch=row["newest_epoch"] or 0,
    )


def _state(number: int | None) -> State | None:
    return None if number is None else State(number)


def _task(number: int | None) -> Task | None:
    return None if number is None else Task(number)
