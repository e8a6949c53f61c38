"""Where each noun's records stand in the tables: columns, who sees them, what orders them.

Owns the shape that rows of any noun are read in, and the records made of it.
"""

from dataclasses import dataclass, replace
from typing import Any

from services.conductor.edges.store.commit import quota_of
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Record
from services.domain.errors import Invalid
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.resources import QuotaAmounts

_HOST_LEDGER = """ARRAY[target_vcpus, target_memory_mib, target_disk_gib,
    used_vcpus, used_memory_mib, used_disk_gib, claim_count]"""
_PROJECT_LEDGER = """ARRAY[limit_instances, limit_vcpus, limit_memory_mib, limit_disk_gib,
    used_instances, used_vcpus, used_memory_mib, used_disk_gib]"""
# Of what is under way; what has ended is not looked at any more.
_LOOKS = """CASE WHEN NOT finished THEN
    ARRAY[(extract(epoch FROM look_again_at) * 1000000)::bigint, looks] END"""


@dataclass(frozen=True, slots=True)
class Noun:
    """One noun's table. `own` picks its rows there, `living` those that lists show, `scope` those
    that a project sees (with a place for its id); the rest are expressions for a record's columns.
    """

    kind: ResourceKind
    table: str
    own: str = "true"
    living: str = "true"
    scope: str = "project_id = {}"
    id_type: str = "uuid"
    project_id: str = "project_id"
    name: str = "''"
    epoch: str = "0"
    deleted: str = "false"
    public: str = "false"
    ledger: str = "NULL::bigint[]"

    @property
    def columns(self) -> str:
        """What is read of a row, the same for every noun."""
        return (
            f"{self.kind.value} AS kind, id::text AS id, {self.project_id} AS project_id,"
            f" {self.name} AS name, version, revision, {self.epoch} AS epoch, body,"
            f" {self.deleted} AS deleted, {self.public} AS public, {self.ledger} AS ledger"
        )


def _catalog(kind: ResourceKind, scope: str) -> Noun:
    return Noun(
        kind, "catalog", f"kind = {kind.value}", "NOT deleted", scope,
        name="name", deleted="deleted", public="public",
    )  # fmt: skip


NOUNS = {
    noun.kind: noun
    for noun in (
        Noun(
            ResourceKind.INSTANCE, "instance", living="NOT deleted",
            name="name", epoch="epoch", deleted="deleted",
        ),
        Noun(ResourceKind.OPERATION, "operation", ledger=_LOOKS),
        _catalog(ResourceKind.FLAVOR, ""),
        _catalog(ResourceKind.IMAGE, "(project_id = {} OR public)"),
        _catalog(ResourceKind.KEY_PAIR, "project_id = {}"),
        Noun(
            ResourceKind.HOST, "host", living="NOT deleted", scope="", id_type="text",
            project_id="''", deleted="deleted", ledger=_HOST_LEDGER,
        ),
        Noun(
            ResourceKind.PROJECT, "project", living="version > 0 AND NOT deleted",
            scope="id = {}", id_type="text", project_id="id", deleted="deleted OR version = 0",
            ledger=_PROJECT_LEDGER,
        ),
    )
}  # fmt: skip


def order_of(query: Query) -> tuple[str, ...]:
    """The columns that the query is ordered by. Raises Invalid (ORDER_INVALID)."""
    if query.order is not ListOrder.NAME:
        return ("id",)
    if NOUNS[query.kind].name != "name":
        raise Invalid("ORDER_INVALID", "these have no name to be ordered by", field="order_by")
    return ("name", "id")


def record(row: Any, usual: QuotaAmounts) -> Record:
    """The record of a row that was read with `columns`."""
    kind = ResourceKind(row["kind"])
    ledger = row["ledger"]
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
        ledger=tuple(ledger) if kind is ResourceKind.HOST else (),
        quota=quota_of(ledger, usual) if kind is ResourceKind.PROJECT else None,
    )


def looked_at(one: Record, row: Any) -> Record:
    """The record with when it is looked at next, which is no part of the state at a commit."""
    if one.kind is not ResourceKind.OPERATION or not row["ledger"]:
        return one
    next_look_us, looks = row["ledger"]
    return replace(one, next_look_us=next_look_us, looks=looks)
