"""What a conductor in memory makes of wishes: request ids, names, and whose rows they are about."""

from __future__ import annotations

import hashlib
from typing import Any

from stead.internal.v1 import conductor_pb2

from services.domain.errors import CloudError, Invalid, NoCapacity
from tests.fakes.conductor_changes import Changes, Done
from tests.fakes.conductor_rows import OPERATION, PROJECT, Key
from tests.fakes.item_error import item_error


class Wishes(Changes):
    """Rows that users change."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[tuple[str, str], tuple[bytes, Key, Key]] = {}
        self.mutations: list[conductor_pb2.Mutation] = []

    async def result(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        """What became of one wish; the same for the same request id."""
        self.mutations.append(mutation)
        try:
            return await self._accepted(mutation)
        except CloudError as refused:
            return conductor_pb2.MutationResult(error=item_error(refused, _violations(refused)))

    async def _accepted(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        method: str = mutation.WhichOneof("wish") or ""
        wish, fingerprint = getattr(mutation, method), b""
        if method == "batched_create":
            method, fingerprint = f"batch#{wish.index}", wish.fingerprint
            wish = wish.create
        asked = wish.description if method == "register_image" else wish
        known = (mutation.caller.project_id, f"{method} {asked.request_id}")
        fingerprint = fingerprint or _fingerprint(asked)
        if known in self.requests:
            before, resource, operation = self.requests[known]
            if before != fingerprint:
                raise Invalid(
                    "REQUEST_ID_REUSED", "this request id was used for another", field="request_id"
                )
        elif asked.validate_only:
            return await self._tried(mutation.caller, wish)
        else:
            done = await self.carried_out(mutation.caller, wish)
            operation = await self._recorded(mutation, done, asked.request_id)
            resource = done.key
            self.requests[known] = (fingerprint, resource, operation)
        return conductor_pb2.MutationResult(
            resource=self._with_use(self.rows[resource]), operation=self.rows[operation]
        )

    async def _recorded(self, mutation: conductor_pb2.Mutation, done: Done, request_id: str) -> Key:
        if done.action == 0:
            return done.key
        return await self.add(
            OPERATION,
            done.operation(
                project_id=mutation.caller.project_id,
                actor=mutation.caller.subject,
                request_id=request_id,
                correlation_id=mutation.trace.correlation_id,
                traceparent=mutation.trace.traceparent,
            ),
        )

    async def _tried(self, caller: conductor_pb2.Caller, wish: Any) -> conductor_pb2.MutationResult:
        """What it would be: done and taken back, and the feed is not told."""
        rows, log, publish = dict(self.rows), list(self.log), self.publish
        self.publish = None
        try:
            done = await self.carried_out(caller, wish)
            resource = self._with_use(self.rows[done.key])
            if done.key not in rows:
                for field in ("version", "revision", *(() if done.key[0] == PROJECT else ("id",))):
                    resource.ClearField(field)
                message = type(self.body(*done.key)).FromString(resource.body)
                if done.key[0] != PROJECT:
                    message.ClearField("id")
                resource.body = message.SerializeToString()
            return conductor_pb2.MutationResult(resource=resource)
        finally:
            self.publish = publish
            self.set_back(rows, log)


def _fingerprint(asked: Any) -> bytes:
    wished = type(asked)()
    wished.CopyFrom(asked)
    wished.validate_only = False
    return hashlib.sha256(wished.SerializeToString(deterministic=True)).digest()


def _violations(refused: CloudError) -> dict[str, str]:
    if isinstance(refused, NoCapacity) and refused.reason == "QUOTA_EXCEEDED":
        return {
            key.removesuffix("_limit"): f"the limit is {value}"
            for key, value in refused.metadata.items()
            if key.endswith("_limit")
        }
    return {}
