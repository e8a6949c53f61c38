"""The conductor's messages from and to what flows speak."""

from collections.abc import Mapping
from typing import Any

from stead.internal.v1 import conductor_pb2, resource_pb2
from stead.v1 import host_pb2, image_pb2, quota_pb2

from services.api.flows.ports import Accepted, Changes, ImageDescription, Wish
from services.api.logic.caller import Caller
from services.api.logic.row import Before, Ledger, Page, PageQuery, Quota, Row
from services.domain.errors import CloudError, NoCapacity
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts, Resources
from services.runtime import rpc

LANE_FULL_S = 1.0

# The field of a mutation that takes a wish, by the wish's message.
_WISHES: Mapping[str, str] = {
    field.message_type.full_name: field.name
    for field in conductor_pb2.Mutation.DESCRIPTOR.oneofs_by_name["wish"].fields
    if field.message_type is not None
}
_KINDS = {kind.value: kind for kind in ResourceKind}


class QuotaExceeded(NoCapacity):
    """A refusal with what the quota does not admit: by resource, in words."""

    violations: Mapping[str, str] = {}


def row_from(resource: resource_pb2.Resource) -> Row:
    """A row."""
    return Row(
        _KINDS[resource.kind],
        resource.id,
        resource.project_id,
        resource.version,
        resource.revision,
        resource.epoch,
        resource.body,
        resource.deleted,
        resource.public,
        _ledger_from(resource.ledger) if resource.HasField("ledger") else None,
        _quota_from(resource.quota) if resource.HasField("quota") else None,
        _before_from(resource.before) if resource.HasField("before") else None,
        resource.next_look_us,
        resource.looks,
    )


def _ledger_from(ledger: resource_pb2.HostLedger) -> Ledger:
    return Ledger(_resources_from(ledger.target), _resources_from(ledger.used), ledger.claims)


def _resources_from(amounts: host_pb2.Resources) -> Resources:
    return Resources(amounts.vcpus, amounts.memory_mib, amounts.disk_gib)


def _quota_from(quota: resource_pb2.QuotaLedger) -> Quota:
    return Quota(_amounts_from(quota.limits), _amounts_from(quota.used))


def _amounts_from(amounts: quota_pb2.QuotaAmounts) -> QuotaAmounts:
    return QuotaAmounts(amounts.instances, amounts.vcpus, amounts.memory_mib, amounts.disk_gib)


def _before_from(before: resource_pb2.Before) -> Before:
    ledger = _ledger_from(before.ledger) if before.HasField("ledger") else None
    return Before(before.body, before.revision, before.epoch, ledger)


def error_from(error: conductor_pb2.ItemError) -> CloudError:
    """Why an item was refused."""
    told = rpc.error_from(
        error.code, error.reason, error.message, field=error.field, metadata=dict(error.metadata)
    )
    if error.quota_violations:
        exceeded = QuotaExceeded(told.reason, told.message, metadata=told.metadata)
        exceeded.violations = dict(error.quota_violations)
        return exceeded
    if told.reason == "LANE_FULL":
        told.retry_after_s = LANE_FULL_S
    return told


def accepted_from(result: conductor_pb2.MutationResult) -> Accepted | CloudError:
    """What became of a wish."""
    if result.HasField("error"):
        return error_from(result.error)
    operation = row_from(result.operation) if result.HasField("operation") else None
    return Accepted(row_from(result.resource), operation)


def page_from(result: conductor_pb2.QueryResult) -> Page | CloudError:
    """The answer to one question."""
    if result.HasField("error"):
        return error_from(result.error)
    rows = tuple(row_from(resource) for resource in result.resources)
    return Page(rows, result.revision, result.more, result.last_id, result.last_key)


def changes_from(batch: resource_pb2.FeedBatch) -> Changes:
    """A stretch of the feed."""
    return Changes(
        [row_from(resource) for resource in batch.changes],
        batch.head_revision,
        batch.history_id,
        batch.compacted_revision,
    )


def caller_to(caller: Caller) -> conductor_pb2.Caller:
    """On whose behalf a call is made."""
    return conductor_pb2.Caller(
        subject=caller.subject, project_id=caller.project_id, cloud_admin=caller.cloud_admin
    )


def query_to(caller: Caller, query: PageQuery) -> conductor_pb2.Query:
    """A question for a page."""
    return conductor_pb2.Query(
        caller=caller_to(caller),
        kind=query.kind.value,  # type: ignore[arg-type]  # same numbers
        project_id=query.project_id,
        after_id=query.after_id,
        after_key=query.after_key,
        limit=query.limit,
        conditions=[
            conductor_pb2.Condition(
                field=condition.field, negated=condition.negated, values=condition.values
            )
            for condition in query.conditions
        ],
        order=query.order.value,  # type: ignore[arg-type]  # same numbers
        descending=query.descending,
        pinned_revision=query.pinned_revision,
    )


def mutation_to(caller: Caller, wish: Wish) -> conductor_pb2.Mutation:
    """A wish with its caller. Raises TypeError for what is no wish."""
    descriptor = getattr(type(wish), "DESCRIPTOR", None)
    if descriptor is None or descriptor.full_name not in _WISHES:
        raise TypeError(f"not a wish: {type(wish).__name__}")
    of_wish: dict[str, Any] = {_WISHES[descriptor.full_name]: wish}
    return conductor_pb2.Mutation(caller=caller_to(caller), **of_wish)


def batched_to(
    caller: Caller, wish: Wish, index: int, fingerprint: bytes
) -> conductor_pb2.Mutation:
    """One new instance of a batch with its caller."""
    of_batch: dict[str, Any] = {"create": wish}
    return conductor_pb2.Mutation(
        caller=caller_to(caller),
        batched_create=conductor_pb2.BatchedCreate(
            index=index, fingerprint=fingerprint, **of_batch
        ),
    )


def register_to(
    caller: Caller, description: ImageDescription, min_disk_gib: int
) -> conductor_pb2.Mutation:
    """An image that is in the store, with its caller."""
    visibility = (
        image_pb2.IMAGE_VISIBILITY_PUBLIC
        if description.public
        else image_pb2.IMAGE_VISIBILITY_PRIVATE
    )
    described = image_pb2.ImageDescription(
        request_id=description.request_id,
        name=description.name,
        kind=description.kind.value,  # type: ignore[arg-type]  # same numbers
        architecture=description.architecture.value,  # type: ignore[arg-type]  # same numbers
        digest=description.digest,
        size_bytes=description.size_bytes,
        visibility=visibility,
        validate_only=description.validate_only,
    )
    return conductor_pb2.Mutation(
        caller=caller_to(caller),
        register_image=conductor_pb2.RegisterImage(
            description=described,
            min_disk_gib=min_disk_gib,
            validate_only=description.validate_only,
        ),
    )
