"""Answers mutations: what was committed, what an earlier request made, or why it was refused.

Owns replays: the same request id with the same payload gives the same resource and operation, as
they are now. A dry run answers with the same words, less what only a commit can give.
"""

import asyncio
from dataclasses import dataclass, replace

from services.conductor.flows.ports import Bodies, Query, Store
from services.conductor.logic.items import Committed, Item, Record, Refusal, Refused, RequestKey
from services.conductor.logic.operations import Author
from services.conductor.logic.quota import asked_of, excesses, metadata_of
from services.conductor.logic.rows import Caller
from services.domain.errors import AlreadyExists, CloudError, Invalid, NoCapacity, WrongState
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts
from services.domain.trace import UNTRACED, Trace


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, what makes the same request the same, in which call, and until when (by the loop's
    clock) the caller waits. With `validate_only` nothing is to change. `batch` as in RequestKey.
    """

    caller: Caller
    method: str
    request_id: str
    fingerprint: bytes
    validate_only: bool = False
    trace: Trace = UNTRACED
    deadline: float | None = None
    batch: str = ""

    @property
    def author(self) -> Author:
        """Who an operation of this request is of."""
        return Author(self.caller.subject, self.request_id, self.trace)

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
            self.batch,
        )

    def time_left_s(self) -> float | None:
        """How much longer the caller waits; None if it did not say."""
        return None if self.deadline is None else self.deadline - asyncio.get_running_loop().time()

    def may_touch(self, project_id: str) -> bool:
        """Whether the caller may change what belongs to the project."""
        return self.caller.cloud_admin or self.caller.project_id == project_id


@dataclass(frozen=True, slots=True)
class Accepted:
    """The rows that answer a mutation, and the item that this very request committed: None where an
    earlier one did, or in a dry run.
    """

    resource: Record
    operation: Record
    made: Item | None = None


class Answerer:
    """Turns outcomes into answers."""

    def __init__(self, store: Store, bodies: Bodies, usual_limits: QuotaAmounts) -> None:
        self._store = store
        self._bodies = bodies
        self._usual = usual_limits

    async def committed(
        self, asked: Asked, kind: ResourceKind, item: Item, outcome: Committed
    ) -> Accepted:
        """The records of the commit, or the rows as they are now where it did not write both."""
        request = item.request
        assert request is not None
        found = {record.id: record for record in outcome.records}
        resource, operation = found.get(request.resource_id), found.get(request.operation_id)
        if resource is None:
            resource = await self._row(kind, request.resource_id)
        if operation is None:
            operation = await self._row(ResourceKind.OPERATION, request.operation_id)
        if asked.validate_only:
            return Accepted(self._as_it_would_be(resource), operation)
        return Accepted(resource, operation, item)

    async def refused(self, kind: ResourceKind, item: Item, refused: Refused) -> Accepted | None:
        """What the first of a replay made; None where it is to be decided anew.

        Raises Invalid, AlreadyExists, NoCapacity, WrongState.
        """
        if refused.refusal is Refusal.REPLAYED:
            return await self._rows(kind, refused.resource_id, refused.operation_id)
        error = self._error_of(item, refused)
        if error is not None:
            raise error
        return None

    async def replay_or(self, asked: Asked, kind: ResourceKind, error: CloudError) -> Accepted:
        """What an earlier, identical request made, even though it could not be made now. Raises the
        error where there is none, or the caller may not touch any more what it made; Invalid
        (REQUEST_ID_REUSED).
        """
        known = await self._known(asked)
        if known is None:
            raise error
        accepted = await self._rows(kind, known.resource_id, known.operation_id)
        if not asked.may_touch(accepted.resource.project_id):
            raise error
        return accepted

    async def _known(self, asked: Asked) -> RequestKey | None:
        key = asked.key("", "")
        known = None
        for one in (key.of_batch(), key) if key.batch else (key,):
            known = await self._store.request_read(one)
            if known is None:
                return None
            if known.fingerprint != asked.fingerprint:
                raise reused()
        return known

    def _error_of(self, item: Item, refused: Refused) -> CloudError | None:
        if refused.refusal is Refusal.REQUEST_ID_REUSED:
            return reused()
        if refused.refusal is Refusal.NAME_TAKEN:
            return _name_taken(item, refused)
        if refused.refusal is Refusal.MALFORMED:
            return Invalid("INVALID_FIELD", "the request has a value that cannot be stored")
        if refused.refusal is Refusal.NO_QUOTA:
            return self._over_quota(item, refused)
        if refused.refusal is Refusal.NOT_EMPTY:
            if item.host is not None:
                return WrongState(
                    "HOST_NOT_EMPTY",
                    "instances live on the host; evacuate or delete them before it",
                    metadata={"host_id": item.host.id},
                )
            return WrongState(
                "PROJECT_NOT_EMPTY", "the project has instances; delete them before it"
            )
        return None

    def _over_quota(self, item: Item, refused: Refused) -> NoCapacity:
        assert refused.project is not None
        assert item.instance is not None
        limits = refused.project.limits or self._usual
        found = excesses(limits, refused.project.used, asked_of(item.instance.resources))
        told = ", ".join(f"{e.resource} {e.used} + {e.asked} > {e.limit}" for e in found)
        return NoCapacity(
            "QUOTA_EXCEEDED",
            f"project {refused.project.id} would pass its quota: {told}; delete instances or ask "
            "for higher limits",
            metadata=metadata_of(found),
        )

    def _as_it_would_be(self, record: Record) -> Record:
        if record.version == 1:
            return self._bodies.unborn(record)
        return replace(record, revision=0)

    async def _row(self, kind: ResourceKind, id: str) -> Record:
        pages = await self._store.records_read([Query(kind, id, "", "", 1, deleted=True)])
        return _as_committed(pages[0].records[0])

    async def _rows(self, kind: ResourceKind, resource_id: str, operation_id: str) -> Accepted:
        pages = await self._store.records_read(
            [
                Query(kind, resource_id, "", "", 1, deleted=True),
                Query(ResourceKind.OPERATION, operation_id, "", "", 1, deleted=True),
            ]
        )
        resource, operation = (_as_committed(page.records[0]) for page in pages)
        return Accepted(resource, operation)


def _as_committed(record: Record) -> Record:
    # When it is looked at next is told to who asks for the operation, not to who made it.
    return replace(record, next_look_us=0, looks=0)


def _name_taken(item: Item, refused: Refused) -> AlreadyExists:
    named = item.instance or item.entry
    name = named.name if named else ""
    return AlreadyExists(
        "NAME_TAKEN",
        f"the name {name!r} is taken; choose another or delete the one that has it",
        field="name",
        metadata={"name": name, "id": refused.resource_id},
    )


def reused() -> Invalid:
    """The request id stands for another payload."""
    return Invalid(
        "REQUEST_ID_REUSED",
        "this request_id was used with another payload; send a new one",
        field="request_id",
    )
