"""Everything that is read, each in one statement and so in one snapshot."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from stead.internal.v1 import compute_pb2
from stead.v1 import instance_pb2

from services.conductor.edges.store import codec
from services.conductor.flows.ports import Page, Query, View
from services.conductor.logic.rows import (
    CatalogRow,
    ClaimRow,
    HostRow,
    InstanceRow,
    Record,
    Situation,
)
from services.domain.errors import Invalid
from services.domain.ids import is_row_id
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ClaimRole, HostState, ResourceKind
from services.domain.resources import Resources

Connection = Any  # asyncpg.Connection is generic in its stubs only

SITUATIONS = """
SELECT i.*, (SELECT n.revision FROM counter n) AS head,
       (SELECT row(o.body, o.version, o.revision) FROM operation o
         WHERE o.resource_id = i.id::text AND NOT o.finished) AS operation,
       ARRAY(SELECT row(c.epoch, c.host_id, c.role, c.wanted_revision, h.incarnation, h.state)
               FROM claim c JOIN host h ON h.id = c.host_id
              WHERE c.instance_id = i.id ORDER BY c.epoch) AS claims
  FROM instance i WHERE i.id = ANY ($1::uuid[])
"""

VIEW = """
SELECT n.revision AS head, h.incarnation, h.state AS host_state,
       c.epoch AS claim_epoch, c.role AS claim_role, c.wanted_revision,
       c.host_id AS claim_host, i.*
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

# At least one change, and no more of them than a message can carry.
CHANGES = """
SELECT n.revision AS head, c.* FROM counter n LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT l.*, sum(octet_length(l.body)) OVER (ORDER BY l.revision) - octet_length(l.body)
               AS bytes_before
          FROM (SELECT * FROM change WHERE revision > $1 ORDER BY revision LIMIT $2) l) m
     WHERE bytes_before < $3) c ON true
 ORDER BY c.revision
"""
CHANGES_BYTES_MAX = 4 * 1024 * 1024

# One page of one noun, with the head that it is true at. {table}, {living} and {where} come from
# the tables below only.
PAGE = """
SELECT n.revision AS head, t.* FROM counter n LEFT JOIN LATERAL (
    SELECT * FROM {table} WHERE {living} {where} ORDER BY id LIMIT {limit}) t ON true
"""

_TABLES = {
    ResourceKind.INSTANCE: (
        "instance",
        "NOT deleted",
        {"name", "state", "flavor_id", "image_id", "host_id"},
    ),
    ResourceKind.OPERATION: ("operation", "true", {"state", "resource_id"}),
    ResourceKind.FLAVOR: ("catalog", "kind = 3 AND NOT deleted", {"name"}),
    ResourceKind.IMAGE: ("catalog", "kind = 4 AND NOT deleted", {"name", "digest"}),
    ResourceKind.HOST: ("host", "true", set[str]()),
}
_IDS = {ResourceKind.HOST: "text"}
# Conditions come as text; the database reads them.
_COLUMN_TYPES = {"state": "::text::smallint"}


async def situations(connection: Connection, ids: Sequence[str]) -> dict[str, Situation]:
    """Everything that decides about these instances."""
    rows = await connection.fetch(SITUATIONS, [id_ for id_ in ids if is_row_id(id_)])
    return {str(row["id"]): _situation(row) for row in rows}


def _situation(row: Any) -> Situation:
    operation = row["operation"]
    return Situation(
        instance=_instance(row),
        operation=codec.operation_from(*operation) if operation is not None else None,
        claims=tuple(
            ClaimRow(
                str(row["id"]),
                epoch,
                host_id,
                ClaimRole(role),
                wanted,
                incarnation,
                HostState(state),
            )
            for epoch, host_id, role, wanted, incarnation, state in row["claims"]
        ),
        head_revision=row["head"],
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
                str(row["id"]), row["claim_epoch"], host_id, role, row["wanted_revision"],
                row["incarnation"], HostState(row["host_state"]),
            )  # fmt: skip
            wanted.append((_instance(row), claim))
    return View(host_id, rows[0]["incarnation"], rows[0]["head"], tuple(wanted))


async def hosts(connection: Connection, ids: Sequence[str]) -> dict[str, HostRow]:
    """Hosts by id."""
    rows = await connection.fetch(HOSTS, list(ids))
    return {row["id"]: _host(row) for row in rows}


def _host(row: Any) -> HostRow:
    target = Resources(row["target_vcpus"], row["target_memory_mib"], row["target_disk_gib"])
    return codec.host_from(
        row["body"], machine_id=row["machine_id"], boot_id=row["boot_id"], target=target
    )


async def catalog(
    connection: Connection, wanted: Sequence[tuple[ResourceKind, str]]
) -> dict[tuple[ResourceKind, str], CatalogRow]:
    """Living flavors or images by id."""
    known = [(kind, id_) for kind, id_ in wanted if is_row_id(id_)]
    rows = await connection.fetch(CATALOG, [kind for kind, _ in known], [id_ for _, id_ in known])
    return {(ResourceKind(row["kind"]), str(row["id"])): _catalog_row(row) for row in rows}


def _catalog_row(row: Any) -> CatalogRow:
    read = codec.flavor_from if row["kind"] == ResourceKind.FLAVOR else codec.image_from
    return read(row["body"], row["version"], row["revision"])


async def changes(
    connection: Connection, after_revision: int, limit: int
) -> tuple[list[Record], int]:
    """The change log above a revision, as much as fits a message, and the head."""
    rows = await connection.fetch(CHANGES, after_revision, limit, CHANGES_BYTES_MAX)
    return [_change(row) for row in rows if row["kind"] is not None], rows[0]["head"]


def _change(row: Any) -> Record:
    return Record(
        kind=ResourceKind(row["kind"]),
        id=row["id"],
        project_id=row["project_id"],
        version=row["version"],
        revision=row["revision"],
        epoch=row["epoch"],
        body=row["body"],
        deleted=row["deleted"],
        public=row["public"],
        ledger=tuple(row["ledger"] or ()),
    )


async def page(connection: Connection, query: Query) -> Page:
    """One record or one page of records, true as of the page's revision. Raises Invalid
    (FILTER_INVALID).
    """
    sql, arguments = page_statement(query)
    try:
        rows = await connection.fetch(sql, *arguments)
    except asyncpg.DataError as error:
        raise Invalid("FILTER_INVALID", f"no row has such a value: {error}") from None
    limit = _limit(query)
    found = [_record(query.kind, row) for row in rows if row["id"] is not None]
    return Page(tuple(found[:limit]), rows[0]["head"], len(found) > limit)


def page_statement(query: Query) -> tuple[str, list[Any]]:
    """The statement of a page, which reads one row more than the page has, and its arguments.

    Raises Invalid (FILTER_INVALID).
    """
    table, living, columns = _TABLES[query.kind]
    if query.deleted:
        living = living.replace("NOT deleted", "true")
    arguments: list[Any] = []
    conditions: list[str] = []

    def add(condition: str, argument: Any) -> None:
        arguments.append(argument)
        conditions.append(condition.format(f"${len(arguments)}"))

    id_type = _IDS.get(query.kind, "uuid")
    if query.id:
        add(f"AND id = {{}}::{id_type}", query.id)
    if query.after_id:
        add(f"AND id > {{}}::{id_type}", query.after_id)
    if query.project_id and query.kind not in (ResourceKind.FLAVOR, ResourceKind.HOST):
        public = " OR public" if query.kind is ResourceKind.IMAGE else ""
        add(f"AND (project_id = {{}}{public})", query.project_id)
    for column, value in query.where.items():
        if column not in columns:
            raise Invalid("FILTER_INVALID", f"{column} cannot be filtered on", field="filter")
        add(f"AND {column} = {{}}{_COLUMN_TYPES.get(column, '')}", value)
    arguments.append(_limit(query) + 1)
    where, limit = " ".join(conditions), f"${len(arguments)}"
    return PAGE.format(table=table, living=living, where=where, limit=limit), arguments


def _limit(query: Query) -> int:
    return 1 if query.id else query.limit


def _record(kind: ResourceKind, row: Any) -> Record:
    has = set(row.keys())
    return Record(
        kind=kind,
        id=str(row["id"]),
        project_id=row["project_id"] if "project_id" in has else "",
        version=row["version"],
        revision=row["revision"],
        epoch=row["epoch"] if "epoch" in has else 0,
        body=row["body"],
        deleted=row["deleted"] if "deleted" in has else False,
        public=bool(row["public"]) if "public" in has else False,
        ledger=_ledger(row) if kind is ResourceKind.HOST else (),
    )


def _ledger(row: Any) -> tuple[int, ...]:
    names = (
        "target_vcpus",
        "target_memory_mib",
        "target_disk_gib",
        "used_vcpus",
        "used_memory_mib",
        "used_disk_gib",
    )
    return (*(row[name] for name in names), row["claim_count"])
