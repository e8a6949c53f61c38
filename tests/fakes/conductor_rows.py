"""The rows of a conductor in memory, their change log, and the feed of it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from stead.internal.v1 import conductor_pb2, resource_pb2
from stead.v1 import (
    flavor_pb2,
    host_pb2,
    image_pb2,
    instance_pb2,
    key_pair_pb2,
    operation_pb2,
    project_pb2,
    quota_pb2,
)

from services.domain.condition import LABEL_PREFIX, Condition, all_hold
from services.domain.errors import OutOfRange
from services.domain.operation import shown_to
from tests.fakes.item_error import item_error

INSTANCE = resource_pb2.RESOURCE_KIND_INSTANCE
OPERATION = resource_pb2.RESOURCE_KIND_OPERATION
FLAVOR = resource_pb2.RESOURCE_KIND_FLAVOR
IMAGE = resource_pb2.RESOURCE_KIND_IMAGE
HOST = resource_pb2.RESOURCE_KIND_HOST
PROJECT = resource_pb2.RESOURCE_KIND_PROJECT
KEY_PAIR = resource_pb2.RESOURCE_KIND_KEY_PAIR
MESSAGES: dict[int, Any] = {
    INSTANCE: instance_pb2.Instance,
    OPERATION: operation_pb2.Operation,
    FLAVOR: flavor_pb2.Flavor,
    IMAGE: image_pb2.Image,
    HOST: host_pb2.Host,
    PROJECT: project_pb2.Project,
    KEY_PAIR: key_pair_pb2.KeyPair,
}
UNLIMITED = quota_pb2.QuotaAmounts(instances=-1, vcpus=-1, memory_mib=-1, disk_gib=-1)
Key = tuple[int, str]


class Rows:
    """Rows and their log. The feed goes out through `publish`, which a test may take away; reads at
    revisions below `compacted` are refused.
    """

    def __init__(self) -> None:
        self.rows: dict[Key, resource_pb2.Resource] = {}
        self.log: list[resource_pb2.Resource] = []
        self.publish: Callable[[bytes], Awaitable[None]] | None = None
        self.history_id = "history-1"
        self.compacted = 0
        self._ids = itertools.count(1)
        # Messages of what lives, by noun and project: names and uses are looked up with each wish.
        self._living: dict[tuple[int, str], dict[str, Any]] = defaultdict(dict)

    def restore(self, revision: int) -> None:
        """Goes back to an earlier state, as a restored database does: another history begins."""
        self.set_back(self.rows_at(revision), self.log[:revision])
        self.history_id += "'"

    def set_back(
        self, rows: dict[Key, resource_pb2.Resource], log: list[resource_pb2.Resource]
    ) -> None:
        """Makes rows and log what they were."""
        self.rows, self.log = rows, log
        self._living.clear()
        for row in rows.values():
            self._note(row)

    def living(self, kind: int, project_id: str) -> Iterable[Any]:
        """The messages of what lives of one noun in one project."""
        return self._living[kind, project_id].values()

    def _note(self, row: resource_pb2.Resource) -> None:
        of_kind = self._living[row.kind, row.project_id]
        if row.deleted:
            of_kind.pop(row.id, None)
        else:
            of_kind[row.id] = MESSAGES[row.kind].FromString(row.body)

    def rows_at(self, revision: int) -> dict[Key, resource_pb2.Resource]:
        """The rows as they were at a commit."""
        rows: dict[Key, resource_pb2.Resource] = {}
        for logged in self.log[:revision]:
            row = rows[logged.kind, logged.id] = resource_pb2.Resource()
            row.CopyFrom(logged)
            row.ClearField("before")
        return rows

    def body(self, kind: int, row_id: str) -> Any:
        """The public message of a row."""
        return MESSAGES[kind].FromString(self.rows[kind, row_id].body)

    async def commit(self, kind: int, message: Any, **header: Any) -> resource_pb2.Resource:
        """One visible change of one row, told to the feed."""
        before = self.rows.get((kind, message.id))
        row = resource_pb2.Resource(
            kind=kind,  # type: ignore[arg-type]  # an int is what enums are
            id=message.id,
            project_id=message.id if kind == PROJECT else getattr(message, "project_id", ""),
            version=before.version + 1 if before else 1,
            revision=len(self.log) + 1,
            body=message.SerializeToString(),
            **{"epoch": before.epoch if before else 0, **header},
        )
        self.rows[kind, message.id] = row
        self._note(row)
        logged = resource_pb2.Resource()
        logged.CopyFrom(row)
        if before is not None:
            logged.before.body, logged.before.revision = before.body, before.revision
            logged.before.epoch = before.epoch
            if before.HasField("ledger"):
                logged.before.ledger.CopyFrom(before.ledger)
        self.log.append(logged)
        if self.publish is not None:
            await self.publish(self.batch([logged]).SerializeToString())
        return row

    async def change_instance(
        self, instance_id: str, *, epoch: int | None = None, **fields: Any
    ) -> None:
        """Sets fields of an instance."""
        message = self.body(INSTANCE, instance_id)
        for field, value in fields.items():
            setattr(message, field, value)
        deleted = message.state == instance_pb2.INSTANCE_STATE_DELETED
        header = {} if epoch is None else {"epoch": epoch}
        await self.commit(INSTANCE, message, deleted=deleted, **header)

    async def end_operation(self, operation_id: str, state: int) -> None:
        """Ends an operation."""
        message = self.body(OPERATION, operation_id)
        message.state = state
        message.phase = operation_pb2.OPERATION_PHASE_ENDED
        await self.commit(OPERATION, message)

    def batch(self, changes: list[resource_pb2.Resource]) -> resource_pb2.FeedBatch:
        """One message of the feed."""
        return resource_pb2.FeedBatch(
            history_id=self.history_id,
            head_revision=len(self.log),
            changes=changes,
            compacted_revision=self.compacted,
        )

    async def add(self, kind: int, message: Any, **header: Any) -> Key:
        """A new row."""
        message.id = f"{next(self._ids):08x}-0000-7000-8000-000000000000"
        await self.commit(kind, message, **header)
        return kind, message.id

    def used_of(self, project_id: str) -> quota_pb2.QuotaAmounts:
        """What the living instances of a project add up to."""
        used = quota_pb2.QuotaAmounts()
        for message in self.living(INSTANCE, project_id):
            used.instances += 1
            used.vcpus += message.vcpus
            used.memory_mib += message.memory_mib
            used.disk_gib += message.disk_gib
        return used

    def answer(self, query: conductor_pb2.Query) -> conductor_pb2.QueryResult:
        """The rows that a question is about."""
        if 0 < query.pinned_revision < self.compacted:
            oldest = {"oldest_revision": str(self.compacted)}
            gone = OutOfRange("REVISION_COMPACTED", "that is not kept any more", metadata=oldest)
            return conductor_pb2.QueryResult(error=item_error(gone))
        rows = self.rows_at(query.pinned_revision) if query.pinned_revision else self.rows
        found = [
            row
            for (kind, _), row in rows.items()
            if kind == query.kind and sees(query.caller, row) and _is_meant(query, row)
        ]
        if query.id:
            found = [row for row in found if row.id == query.id.lower()]
            if not found and query.kind == PROJECT:
                found = self._unknown_project(query)
            return conductor_pb2.QueryResult(
                resources=map(self._with_use, found), revision=len(self.log)
            )
        return self._page(query, [row for row in found if not row.deleted])

    def _page(
        self, query: conductor_pb2.Query, found: list[resource_pb2.Resource]
    ) -> conductor_pb2.QueryResult:
        by_name = query.order == conductor_pb2.LIST_ORDER_NAME

        def place(row: resource_pb2.Resource) -> tuple[str, str]:
            return (fields_of(row)["name"] if by_name else "", row.id)

        found.sort(key=place, reverse=query.descending)
        after = (query.after_key if by_name else "", query.after_id)
        if query.after_id:
            found = [
                row
                for row in found
                if (place(row) < after if query.descending else place(row) > after)
            ]
        page = found[: query.limit]
        last_key, last_id = place(page[-1]) if page else ("", "")
        return conductor_pb2.QueryResult(
            resources=map(self._with_use, page),
            revision=query.pinned_revision or len(self.log),
            more=len(found) > query.limit,
            last_id=last_id,
            last_key=last_key,
        )

    def _with_use(self, row: resource_pb2.Resource) -> resource_pb2.Resource:
        if row.kind != PROJECT:
            return row
        shown = resource_pb2.Resource()
        shown.CopyFrom(row)
        shown.quota.used.CopyFrom(self.used_of(row.id))
        return shown

    def _unknown_project(self, query: conductor_pb2.Query) -> list[resource_pb2.Resource]:
        """Nobody has made it known: the usual limits."""
        row = resource_pb2.Resource(
            kind=PROJECT,
            id=query.id,
            project_id=query.id,
            body=project_pb2.Project(id=query.id).SerializeToString(),
            quota=resource_pb2.QuotaLedger(limits=UNLIMITED),
        )
        return [row] if sees(query.caller, row) else []


def _is_meant(query: conductor_pb2.Query, row: resource_pb2.Resource) -> bool:
    if query.project_id and not row.public and row.project_id != query.project_id:
        return False
    conditions = [Condition(c.field, tuple(c.values), c.negated) for c in query.conditions]
    return not conditions or all_hold(conditions, fields_of(row).get)


def fields_of(row: resource_pb2.Resource) -> Mapping[str, str]:
    """What a filter can ask of a row, as text."""
    message = MESSAGES[row.kind].FromString(row.body)
    fields = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if isinstance(value, bool):
            fields[field.name] = str(value).lower()
        elif isinstance(value, str | int):
            fields[field.name] = str(value)
    for key, value in getattr(message, "labels", {}).items():
        fields[LABEL_PREFIX + key] = value
    return fields


def sees(caller: conductor_pb2.Caller, row: resource_pb2.Resource) -> bool:
    """Whether the row exists for the caller."""
    shown = shown_to(cloud_admin=caller.cloud_admin) if row.kind == OPERATION else ()
    if shown and not all_hold(shown, fields_of(row).get):
        return False
    return caller.cloud_admin or row.public or row.project_id in ("", caller.project_id)
