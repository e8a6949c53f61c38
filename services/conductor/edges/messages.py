"""The internal contract's messages, from and to the conductor's own values."""

from collections.abc import Sequence

from stead.internal.v1 import compute_pb2, conductor_pb2, resource_pb2
from stead.v1 import image_pb2

from services.conductor.edges.store import codec
from services.conductor.flows.greet import Hello
from services.conductor.flows.ports import View
from services.conductor.logic.lifecycle import Seen
from services.conductor.logic.rows import ClaimRow, ImageReference, InstanceRow, Record
from services.domain.errors import CloudError
from services.domain.instance import Power
from services.domain.kinds import Architecture, ClaimRole, ImageKind
from services.domain.observation import ObservationOutcome
from services.domain.resources import Overcommit, Resources
from services.runtime.rpc import code_of

_POWERS = frozenset(Power)


def item_error(error: CloudError) -> conductor_pb2.ItemError:
    """Why an item was refused."""
    return conductor_pb2.ItemError(
        code=code_of(error),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        field=error.field,
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
    )
    if record.ledger:
        target, used = Resources(*record.ledger[:3]), Resources(*record.ledger[3:6])
        message.ledger.target.CopyFrom(codec.amounts(target))
        message.ledger.used.CopyFrom(codec.amounts(used))
        message.ledger.claims = record.ledger[6]
    return message


def feed_batch(
    records: Sequence[Record], head_revision: int, history_id: str
) -> resource_pb2.FeedBatch:
    """A stretch of the feed."""
    return resource_pb2.FeedBatch(
        history_id=history_id,
        head_revision=head_revision,
        changes=[resource(record) for record in records],
    )


def wanted(row: InstanceRow, claim: ClaimRow) -> compute_pb2.Wanted:
    """What is wanted of an instance under a claim; a claim that is LEAVING wants absence."""
    spec = codec.spec_of(row)
    if claim.role is ClaimRole.LEAVING:
        spec.present = spec.run = False
    return compute_pb2.Wanted(
        instance_id=row.id,
        epoch=claim.epoch,
        generation=row.generation,
        revision=claim.wanted_revision,
        spec=spec,
    )


def view(found: View, cloud_id: str) -> compute_pb2.View:
    """All that is wanted of a host."""
    return compute_pb2.View(
        cloud_id=cloud_id,
        host_id=found.host_id,
        incarnation=found.incarnation,
        revision=found.revision,
        wanted=[wanted(row, claim) for row, claim in found.wanted],
    )


def hello_from(message: compute_pb2.Hello) -> Hello:
    """What an agent says of its host."""
    ratio = message.overcommit
    return Hello(
        host_id=message.host_id,
        machine_id=message.machine_id,
        boot_id=message.boot_id,
        agent_version=message.agent_version,
        capacity=codec.resources_from(message.capacity),
        reserved=codec.resources_from(message.reserved),
        overcommit=Overcommit(ratio.vcpus_permille, ratio.memory_permille, ratio.disk_permille),
        capabilities=message.capabilities.SerializeToString(),
    )


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
        power=_power_from(observation.power),
        absent=observation.absent,
        failure=failure,
        progress=observation.progress,
    )


def _power_from(number: int) -> Power:
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
    """An image as hosts need to know it."""
    return ImageReference(
        described.digest,
        described.size_bytes,
        ImageKind(described.kind),
        Architecture(described.architecture),
    )
