"""Rows as the flows need them, each question in one statement and so in one snapshot.

Does not own records for readers (`pages`) nor the change log (`log`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from stead.internal.v1 import compute_pb2
from stead.v1 import instance_pb2

from services.conductor.edges.store import codec, codec_catalog, codec_owners
from services.conductor.flows.ports import OperationCount, View
from services.conductor.logic.rows import (
    CatalogRow,
    ClaimRow,
    HostRow,
    InstanceRow,
    ProjectRow,
    Situation,
)
from services.domain.ids import is_row_id
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ClaimRole, HostState, ResourceKind
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.resources import Resources

Connection = Any  # asyncpg.Connection is generic in its stubs only

SITUATIONS = """
SELECT i.*, (SELECT n.revision FROM counter n) AS head,
       (SELECT row(o.body, o.version, o.revision, o.deadline_at <= now()) FROM operation o
         WHERE o.resource_id = i.id::text AND NOT o.finished) AS operation,
       ARRAY(SELECT row(c.epoch, c.host_id, c.role, c.wanted_revision, h.incarnation, h.state,
                        c.discard, h.fenced = h.incarnation, h.edition)
               FROM claim c JOIN host h ON h.id = c.host_id
              WHERE c.instance_id = i.id ORDER BY c.epoch) AS claims
  FROM instance i WHERE i.id = ANY ($1::uuid[])
"""

VIEW = """
SELECT n.revision AS head, h.incarnation, h.state AS host_state, h.fenced = h.incarnation AS fenced,
       c.epoch AS claim_epoch, c.role AS claim_role, c.wanted_revision,
       c.host_id AS claim_host, c.instance_id AS claim_instance, c.discard, i.*
  FROM counter n
  JOIN host h ON h.id = $1
  LEFT JOIN claim c ON c.host_id = h.id
  LEFT JOIN instance i ON i.id = c.instance_id
"""

HOSTS = "SELECT * FROM host WHERE id = ANY ($1::text[])"

CATALOG = """
SELECT c.* FROM (SELECT DISTINCT * FROM unnest($1::smallint[], $2::uuid[]) AS w (kind, id)) w
  JOIN catalog c USING (kind, id) WHERE NOT c.deleted
"""

PROJECTS = """
SELECT *, ARRAY[limit_instances, limit_vcpus, limit_memory_mib, limit_disk_gib,
                used_instances, used_vcpus, used_memory_mib, used_disk_gib] AS ledger
  FROM project
 WHERE id = ANY ($1::text[]) AND (version > 0 AND NOT deleted OR used_instances > 0)
"""

COUNTS = """
SELECT action, state, phase, count(*) AS count,
       extract(epoch FROM now() - min(created_at))::float8 AS oldest_s
  FROM operation WHERE NOT finished GROUP BY action, state, phase
"""


async def situations(connection: Connection, ids: Sequence[str]) -> dict[str, Situation]:
    """Everything that decides about these instances."""
    rows = await connection.fetch(SITUATIONS, [id_ for id_ in ids if is_row_id(id_)])
    return {str(row["id"]): _situation(row) for row in rows}


def _situation(row: Any) -> Situation:
    operation, overdue = None, False
    if row["operation"] is not None:
        *stored, overdue = row["operation"]
        operation = codec.operation_from(*stored)
    return Situation(
        instance=_instance(row),
        operation=operation,
        claims=tuple(
            ClaimRow(
                str(row["id"]),
                epoch,
                host_id,
                ClaimRole(role),
                wanted,
                incarnation,
                HostState(state),
                *rest,
            )
            for epoch, host_id, role, wanted, incarnation, state, *rest in row["claims"]
        ),
        head_revision=row["head"],
        overdue=overdue,
    )


def _instance(row: Any) -> InstanceRow:
    message = instance_pb2.Instance.FromString(row["body"])
    spec = compute_pb2.Spec.FromString(row["wanted"])
    return InstanceRow(
        id=str(row["id"]),
        project_id=row["project_id"],
        name=row["name"],
        standing=Standing(State(row["state"]), Task(row["task"])),
        power=Power(row["power"]),
        flavor_id=row["flavor_id"],
        image_id=row["image_id"],
        labels=dict(message.labels),
        resources=Resources(spec.vcpus, spec.memory_mib, spec.disk_gib),
        wanted=codec.wanted_from(spec),
        created_at_s=codec.seconds(message.create_time),
        generation=row["generation"],
        host_id=row["host_id"],
        epoch=row["epoch"],
        attempt=row["attempt"],
        excluded_host_ids=tuple(row["excluded_host_ids"]),
        fault=message.fault,
        version=row["version"],
        revision=row["revision"],
    )


async def view(connection: Connection, host_id: str) -> View | None:
    """All claims of a host with what is wanted, and the revision at which that is true."""
    rows = await connection.fetch(VIEW, host_id)
    if not rows:
        return None
    wanted = []
    for row in rows:
        if row["claim_epoch"] is not None:
            role = ClaimRole(row["claim_role"])
            claim = ClaimRow(
                str(row["claim_instance"]), row["claim_epoch"], host_id, role,
                row["wanted_revision"], row["incarnation"], HostState(row["host_state"]),
                row["discard"],
            )  # fmt: skip
            wanted.append((None if row["id"] is None else _instance(row), claim))
    host = rows[0]
    return View(host_id, host["incarnation"], host["head"], tuple(wanted), fenced=host["fenced"])


async def hosts(connection: Connection, ids: Sequence[str]) -> dict[str, HostRow]:
    """Hosts by id."""
    rows = await connection.fetch(HOSTS, list(ids))
    return {row["id"]: _host(row) for row in rows}


def _host(row: Any) -> HostRow:
    target = Resources(row["target_vcpus"], row["target_memory_mib"], row["target_disk_gib"])
    found = codec_owners.host_from(
        row["body"],
        row["edition"],
        machine_id=row["machine_id"],
        boot_id=row["boot_id"],
        target=target,
    )
    return replace(found, deleted=row["deleted"])


async def catalog(
    connection: Connection, wanted: Sequence[tuple[ResourceKind, str]]
) -> dict[tuple[ResourceKind, str], CatalogRow]:
    """Living entries by kind and id."""
    known = [(kind, id_) for kind, id_ in wanted if is_row_id(id_)]
    rows = await connection.fetch(CATALOG, [kind for kind, _ in known], [id_ for _, id_ in known])
    return {(ResourceKind(row["kind"]), str(row["id"])): _catalog_row(row) for row in rows}


def _catalog_row(row: Any) -> CatalogRow:
    return _READ[ResourceKind(row["kind"])](row["body"], row["version"], row["revision"])


_READ: dict[ResourceKind, Callable[[bytes, int, int], CatalogRow]] = {
    ResourceKind.FLAVOR: codec_catalog.flavor_from,
    ResourceKind.IMAGE: codec_catalog.image_from,
    ResourceKind.KEY_PAIR: codec_catalog.key_pair_from,
}


async def projects(connection: Connection, ids: Sequence[str]) -> dict[str, ProjectRow]:
    """Projects that live or use something, by id."""
    rows = await connection.fetch(PROJECTS, list(ids))
    return {row["id"]: _project(row) for row in rows}


def _project(row: Any) -> ProjectRow:
    # Instances that came after its end do not make it known again.
    known = not row["deleted"]
    return codec_owners.project_from(
        row["id"],
        row["body"] if known else b"",
        row["ledger"],
        version=row["version"] if known else 0,
        revision=row["revision"] if known else 0,
    )


async def operations_count(connection: Connection) -> list[OperationCount]:
    """How many operations are under way, by what and where they are."""
    rows = await connection.fetch(COUNTS)
    return [
        OperationCount(
            OperationAction(row["action"]),
            OperationState(row["state"]),
            Phase(row["phase"]),
            row["count"],
            row["oldest_s"],
        )
        for row in rows
    ]
