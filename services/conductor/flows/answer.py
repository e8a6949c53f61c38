"""Answers mutations: what was committed, what an earlier request made, or why it was refused.

Owns replays: the same request id with the same payload gives the same resource and operation, as
they are now.
"""

from dataclasses import dataclass

from services.conductor.flows.ports import Query, Store
from services.conductor.logic.rows import Caller, Committed, Record, Refusal, Refused, RequestKey
from services.domain.errors import AlreadyExists, CloudError, Invalid, Unavailable
from services.domain.kinds import ResourceKind


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and what makes the same request the same."""

    caller: Caller
    method: str
    request_id: str
    fingerprint: bytes

    def key(self, resource_id: str, operation_id: str) -> RequestKey:
        """The request's record, answering with these ids."""
        return RequestKey(
            self.caller.project_id,
            self.caller.subject,
            self.method,
            self.request_id,
            self.fingerprint,
            resource_id,
            operation_id,
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """The rows that answer a mutation."""

    resource: Record
    operation: Record


class Answerer:
    """Turns outcomes into answers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def committed(
        self, kind: ResourceKind, request: RequestKey, outcome: Committed
    ) -> Accepted:
        """The records of the commit, or the rows as they are now where it did not write both."""
        found = {record.id: record for record in outcome.records}
        if request.resource_id in found and request.operation_id in found:
            return Accepted(found[request.resource_id], found[request.operation_id])
        return await self._read(kind, request.resource_id, request.operation_id)

    async def refused(self, refused: Refused, kind: ResourceKind, name: str) -> Accepted:
        """What the first of a replay made. Raises Invalid, AlreadyExists, Unavailable."""
        if refused.refusal is Refusal.REPLAYED:
            return await self._read(kind, refused.resource_id, refused.operation_id)
        if refused.refusal is Refusal.REQUEST_ID_REUSED:
            raise _reused()
        if refused.refusal is Refusal.NAME_TAKEN:
            raise AlreadyExists(
                "NAME_TAKEN",
                f"the name {name!r} is taken; choose another or delete the one that has it",
                field="name",
                metadata={"name": name, "id": refused.resource_id},
            )
        if refused.refusal is Refusal.MALFORMED:
            raise Invalid("INVALID_FIELD", "the request has a value that cannot be stored")
        raise Unavailable("ROW_CONTENDED", f"refused as {refused.refusal.value}; ask again")

    async def replay_or(self, asked: Asked, kind: ResourceKind, error: CloudError) -> Accepted:
        """What an earlier, identical request made, even though it could not be made now."""
        known = await self._store.request_read(asked.key("", ""))
        if known is None:
            raise error
        if known.fingerprint != asked.fingerprint:
            raise _reused()
        return await self._read(kind, known.resource_id, known.operation_id)

    async def _read(self, kind: ResourceKind, resource_id: str, operation_id: str) -> Accepted:
        pages = await self._store.records_read(
            [
                Query(kind, resource_id, "", "", 1, {}, deleted=True),
                Query(ResourceKind.OPERATION, operation_id, "", "", 1, {}, deleted=True),
            ]
        )
        return Accepted(pages[0].records[0], pages[1].records[0])


def _reused() -> Invalid:
    return Invalid(
        "REQUEST_ID_REUSED",
        "this request_id was used with another payload; send a new one",
        field="request_id",
    )
