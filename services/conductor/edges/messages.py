"""The internal contract's messages, from and to the conductor's own values."""

from collections.abc import Sequence

from stead.internal.v1 import compute_pb2, conductor_pb2, resource_pb2
from stead.v1 import host_pb2, image_pb2, quota_pb2

from services.conductor.edges.store import codec
from services.conductor.flows.greet import Hello
from services.conductor.flows.ports import Page, Query, View
from services.conductor.logic.guest_policy import is_built
from services.conductor.logic.items import Record
from services.conductor.logic.observation import Seen
from services.conductor.logic.quota import violations_of
from services.conductor.logic.rows import Caller, ClaimRow, ImageReference, InstanceRow
from services.domain.condition import Condition
from services.domain.errors import CloudError, Invalid
from services.domain.instance import Power
from services.domain.kinds import Architecture, ClaimRole, ImageKind, ListOrder, ResourceKind
from services.domain.observation import ObservationOutcome
from services.domain.resources import Overcommit, QuotaAmounts, Resources
from services.domain.trace import UNTRACED, Trace, trace_from
from services.runtime.rpc import code_of

OVER_QUOTA = "QUOTA_EXCEEDED"
_POWERS = frozenset(Power)
_ORDERS = {order.value: order for order in ListOrder}
_KINDS = {kind.value: kind for kind in ImageKind}
_MACHINES = {architecture.value: architecture for architecture in Architecture}


def item_error(error: CloudError) -> conductor_pb2.ItemError:
    """Why an item was refused."""
    return conductor_pb2.ItemError(
        code=code_of(error),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        field=error.field,
        quota_violations=violations_of(error.metadata) if error.reason == OVER_QUOTA else {},
    )


def resource(record: Record) -> resource_pb2.Resource:
    """A record for readers and followers."""
    message = resource_pb2.Resource(
        kind=record.kind.value,  # type: ignore[arg-type]  # numbers are those of the contract
        id=record.id,
        project_id=record.project_id,
        version=record.version,
        revision=record.revision,
        epoch=record.epoch,
        body=record.body,
        deleted=record.deleted,
        public=record.public,
        next_look_us=record.next_look_us,
        looks=record.looks,
    )
    if record.ledger:
        _write_ledger(message.ledger, record.ledger)
    if record.quota is not None:
        limits, used = record.quota
        _write_quota(message.quota.limits, limits)
        _write_quota(message.quota.used, used)
    before = record.before
    if before is not None:
        message.before.body, message.before.revision = before.body, before.revision
        message.before.epoch = before.epoch
        if before.ledger:
            _write_ledger(message.before.ledger, before.ledger)
    return message


def _write_ledger(message: resource_pb2.HostLedger, ledger: tuple[int, ...]) -> None:
    _write_amounts(message.target, ledger[:3])
    _write_amounts(message.used, ledger[3:6])
    message.claims = ledger[6]


def _write_amounts(message: host_pb2.Resources, amounts: tuple[int, ...]) -> None:
    message.vcpus, message.memory_mib, message.disk_gib = amounts


def _write_quota(message: quota_pb2.QuotaAmounts, amounts: QuotaAmounts) -> None:
    message.instances, message.vcpus = amounts.instances, amounts.vcpus
    message.memory_mib, message.disk_gib = amounts.memory_mib, amounts.disk_gib


def feed_batch(
    records: Sequence[Record], head_revision: int, *, history_id: str, compacted_revision: int
) -> resource_pb2.FeedBatch:
    """A stretch of the feed."""
    return resource_pb2.FeedBatch(
        history_id=history_id,
        head_revision=head_revision,
        changes=[resource(record) for record in records],
        compacted_revision=compacted_revision,
    )


def caller_from(message: conductor_pb2.Caller) -> Caller:
    """On whose behalf a call is made."""
    return Caller(message.subject, message.project_id, message.cloud_admin)


def query_from(message: conductor_pb2.Query) -> Query:
    """A question about records."""
    return Query(
        kind=ResourceKind(message.kind),
        id=message.id,
        project_id=message.project_id,
        after_id=message.after_id,
        limit=message.limit,
        conditions=tuple(
            Condition(c.field, tuple(c.values), c.negated) for c in message.conditions
        ),
        order=_ORDERS.get(message.order, ListOrder.ID),
        descending=message.descending,
        after_key=message.after_key,
        pinned_revision=message.pinned_revision,
    )


def query_result(page: Page) -> conductor_pb2.QueryResult:
    """The answer to a question."""
    return conductor_pb2.QueryResult(
        resources=[resource(record) for record in page.records],
        revision=page.revision,
        more=page.more,
        last_id=page.last_id,
        last_key=page.last_key,
    )


def trace_of(message: resource_pb2.Trace) -> Trace:
    """Where a call came from, less what is not well formed."""
    return trace_from(message.correlation_id, message.traceparent)


def write_trace(message: resource_pb2.Trace, trace: Trace) -> None:
    """Puts a trace into a message."""
    message.correlation_id, message.traceparent = trace.correlation_id, trace.traceparent


def wanted(row: InstanceRow | None, claim: ClaimRow, trace: Trace = UNTRACED) -> compute_pb2.Wanted:
    """What is wanted of an instance under a claim. Absence only where the claim says `discard`: a
    guest on its way out without it is stopped and kept. Source: MECHANICS C7.
    """
    spec = codec.spec_of(row) if row is not None else compute_pb2.Spec()
    # Whoever sends an end and does not know of the word yet, the guest only goes off.
    leaving = claim.role is ClaimRole.LEAVING or not spec.present
    if leaving:
        spec.present, spec.run = not claim.discard, False
        spec.power = Power.OFF.value  # type: ignore[assignment]  # numbers are those of the contract
        spec.grace_s = 0
    message = compute_pb2.Wanted(
        instance_id=claim.instance_id,
        epoch=claim.epoch,
        generation=row.generation if row is not None else 0,
        revision=claim.wanted_revision,
        spec=spec,
        built=row is not None and is_built(row, claim),
        leaving=leaving and not claim.discard,
    )
    if trace != UNTRACED:
        write_trace(message.trace, trace)
    return message


def view(found: View, cloud_id: str) -> compute_pb2.View:
    """All that is wanted of a host."""
    return compute_pb2.View(
        cloud_id=cloud_id,
        host_id=found.host_id,
        incarnation=found.incarnation,
        revision=found.revision,
        wanted=[
            *(wanted(row, claim) for row, claim in found.wanted),
            *(_outdated(guest, found.revision) for guest in found.outdated),
        ],
    )


def _outdated(guest: tuple[str, int], revision: int) -> compute_pb2.Wanted:
    instance_id, epoch = guest
    return compute_pb2.Wanted(
        instance_id=instance_id, epoch=epoch, revision=revision, leaving=True, unclaimed=True
    )


def hello_from(message: compute_pb2.Hello) -> Hello:
    """What an agent says of its host."""
    ratio = message.overcommit
    return Hello(
        host_id=message.host_id,
        machine_id=message.machine_id,
        boot_id=message.boot_id,
        agent_version=message.agent_version,
        capacity=_resources_from(message.capacity),
        reserved=_resources_from(message.reserved),
        overcommit=Overcommit(ratio.vcpus_permille, ratio.memory_permille, ratio.disk_permille),
        capabilities=message.capabilities.SerializeToString(),
        guests=tuple((guest.instance_id, guest.epoch) for guest in message.guests),
    )


def _resources_from(message: host_pb2.Resources) -> Resources:
    return Resources(message.vcpus, message.memory_mib, message.disk_gib)


def seen_from(message: conductor_pb2.HostObservation) -> Seen:
    """One observation with its origin."""
    observation = message.observation
    failure = None
    if observation.HasField("failure"):
        failure = (observation.failure.reason, observation.failure.message)
    return Seen(
        instance_id=observation.instance_id,
        epoch=observation.epoch,
        host_id=message.host_id,
        incarnation=message.incarnation,
        sequence=observation.sequence,
        applied_generation=observation.applied_generation,
        power=power_from(observation.power),
        absent=observation.absent,
        failure=failure,
        progress=observation.progress,
        failed_generation=observation.failure.generation,
    )


def power_from(number: int) -> Power:
    """What a host says of a guest's power switch."""
    # What this release does not know is as if it had not been seen.
    return Power(number) if number in _POWERS else Power.PENDING


def observe_response(
    request: conductor_pb2.ObserveRequest, outcomes: Sequence[ObservationOutcome]
) -> conductor_pb2.ObserveResponse:
    """The outcome of each observation, in order."""
    return conductor_pb2.ObserveResponse(
        results=[
            compute_pb2.ObservationResult(
                sequence=observation.observation.sequence,
                outcome=outcome.value,  # type: ignore[arg-type]  # numbers are those of the contract
            )
            for observation, outcome in zip(request.observations, outcomes, strict=True)
        ]
    )


def image_reference_from(described: image_pb2.ImageDescription) -> ImageReference:
    """An image as hosts need to know it. Raises Invalid (INVALID_FIELD) for a kind or processor
    that this release does not know.
    """
    kind, architecture = _KINDS.get(described.kind), _MACHINES.get(described.architecture)
    if kind is None or architecture is None:
        raise Invalid("INVALID_FIELD", "the image is of a kind that is not known here")
    return ImageReference(described.digest, described.size_bytes, kind, architecture)
