"""The rows of a conductor in memory, their change log, and the feed of it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from stead.internal.v1 import conductor_pb2, resource_pb2
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

INSTANCE = resource_pb2.RESOURCE_KIND_INSTANCE
OPERATION = resource_pb2.RESOURCE_KIND_OPERATION
FLAVOR = resource_pb2.RESOURCE_KIND_FLAVOR
IMAGE = resource_pb2.RESOURCE_KIND_IMAGE
HOST = resource_pb2.RESOURCE_KIND_HOST
MESSAGES: dict[int, Any] = {
    INSTANCE: instance_pb2.Instance,
    OPERATION: operation_pb2.Operation,
    FLAVOR: flavor_pb2.Flavor,
    IMAGE: image_pb2.Image,
    HOST: host_pb2.Host,
}
Key = tuple[int, str]


class Rows:
    """Rows and their log. The feed goes out through `publish`, which a test may take away."""

    def __init__(self) -> None:
        self.rows: dict[Key, resource_pb2.Resource] = {}
        self.log: list[resource_pb2.Resource] = []
        self.publish: Callable[[bytes], Awaitable[None]] | None = None
        self.history_id = "history-1"
        self._ids = itertools.count(1)

    def restore(self, revision: int) -> None:
        """Goes back to an earlier state, as a restored database does: another history begins."""
        del self.log[revision:]
        self.rows = {(row.kind, row.id): row for row in self.log}
        self.history_id += "'"

    def body(self, kind: int, row_id: str) -> Any:
        """The public message of a row."""
        return MESSAGES[kind].FromString(self.rows[kind, row_id].body)

    async def commit(self, kind: int, message: Any, **header: Any) -> resource_pb2.Resource:
        """One visible change of one row, told to the feed."""
        before = self.rows.get((kind, message.id))
        row = resource_pb2.Resource(
            kind=kind,  # type: ignore[arg-type]  # an int is what enums are
            id=message.id,
            project_id=getattr(message, "project_id", ""),
            version=before.version + 1 if before else 1,
            revision=len(self.log) + 1,
            body=message.SerializeToString(),
            **{"epoch": before.epoch if before else 0, **header},
        )
        self.rows[kind, message.id] = row
        self.log.append(row)
        if self.publish is not None:
            await self.publish(self.batch([row]).SerializeToString())
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
            history_id=self.history_id, head_revision=len(self.log), changes=changes
        )

    async def add(self, kind: int, message: Any, **header: Any) -> Key:
        """A new row."""
        message.id = f"{next(self._ids):08x}-0000-7000-8000-000000000000"
        await self.commit(kind, message, **header)
        return kind, message.id

    def answer(self, query: conductor_pb2.Query) -> conductor_pb2.QueryResult:
        """The rows that a question is about."""
        rows = [
            row
            for (kind, row_id), row in sorted(self.rows.items())
            if kind == query.kind and sees(query.caller, row) and self._is_meant(query, row)
        ]
        if query.id:
            rows = [row for row in rows if row.id == query.id.lower()]
            return conductor_pb2.QueryResult(resources=rows, revision=len(self.log))
        rows = [row for row in rows if not row.deleted and row.id > query.after_id]
        return conductor_pb2.QueryResult(
            resources=rows[: query.limit], revision=len(self.log), more=len(rows) > query.limit
        )

    def _is_meant(self, query: conductor_pb2.Query, row: resource_pb2.Resource) -> bool:
        if query.project_id and not row.public and row.project_id != query.project_id:
            return False
        body = self.body(row.kind, row.id)
        return all(str(getattr(body, field)) == value for field, value in query.where.items())


def sees(caller: conductor_pb2.Caller, row: resource_pb2.Resource) -> bool:
    """Whether the row exists for the caller."""
    return caller.cloud_admin or row.public or row.project_id in ("", caller.project_id)
