"""Rows as bytes: what of a row is stored as the public message, and how it is read back.

Owns the mapping between rows and stead.v1 messages. Version, revision, epoch, etag and the ledger
are never in the bytes: the commit decides them, readers add them.
"""

from google.protobuf.timestamp_pb2 import Timestamp
from stead.internal.v1 import compute_pb2
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

from services.conductor.logic.rows import (
    FlavorRow,
    HostRow,
    ImageReference,
    ImageRow,
    InstanceRow,
    OperationFault,
    OperationRow,
    Wanted,
)
from services.domain.kinds import Architecture, HostState, ImageKind
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.resources import Overcommit, Resources


def timestamp(at_s: float) -> Timestamp:
    """Seconds since 1970 as a Timestamp, to the nearest microsecond: read and written again it is
    the same.
    """
    stamp = Timestamp()
    stamp.FromMicroseconds(round(at_s * 1_000_000))
    return stamp


def seconds(stamp: Timestamp) -> float:
    """A Timestamp as seconds since 1970."""
    return stamp.ToMicroseconds() / 1_000_000


def amounts(resources: Resources) -> host_pb2.Resources:
    """The public form of an amount."""
    return host_pb2.Resources(
        vcpus=resources.vcpus, memory_mib=resources.memory_mib, disk_gib=resources.disk_gib
    )


def resources_from(message: host_pb2.Resources) -> Resources:
    """An amount from its public form."""
    return Resources(message.vcpus, message.memory_mib, message.disk_gib)


def spec_of(row: InstanceRow) -> compute_pb2.Spec:
    """What is wanted of the instance, as hosts get it."""
    wanted = row.wanted
    return compute_pb2.Spec(
        present=wanted.present,
        run=wanted.run,
        boot=wanted.boot,
        project_id=row.project_id,
        name=row.name,
        vcpus=row.resources.vcpus,
        memory_mib=row.resources.memory_mib,
        disk_gib=row.resources.disk_gib,
        image=compute_pb2.ImageReference(
            digest=wanted.image.digest,
            size_bytes=wanted.image.size_bytes,
            kind=wanted.image.kind.value,  # type: ignore[arg-type]  # numbers are those of the contract
            architecture=wanted.image.architecture.value,  # type: ignore[arg-type]  # as above
        ),
        ssh_public_keys=wanted.ssh_public_keys,
        user_data=wanted.user_data,
    )


def wanted_from(spec: compute_pb2.Spec) -> Wanted:
    """What is wanted, from its stored form."""
    return Wanted(
        present=spec.present,
        run=spec.run,
        boot=spec.boot,
        image=ImageReference(
            spec.image.digest,
            spec.image.size_bytes,
            ImageKind(spec.image.kind),
            Architecture(spec.image.architecture),
        ),
        ssh_public_keys=tuple(spec.ssh_public_keys),
        user_data=spec.user_data,
    )


def instance_body(row: InstanceRow) -> bytes:
    """The public message of an instance, less what the commit decides."""
    return instance_pb2.Instance(
        id=row.id,
        name=row.name,
        project_id=row.project_id,
        state=row.standing.state.value,  # type: ignore[arg-type]  # numbers are those of the contract
        task=row.standing.task.value,  # type: ignore[arg-type]  # as above
        power=row.power.value,  # type: ignore[arg-type]  # as above
        host_id=row.host_id,
        flavor_id=row.flavor_id,
        image_id=row.image_id,
        labels=row.labels,
        generation=row.generation,
        create_time=timestamp(row.created_at_s),
        vcpus=row.resources.vcpus,
        memory_mib=row.resources.memory_mib,
        disk_gib=row.resources.disk_gib,
        fault=row.fault,
    ).SerializeToString()


def operation_body(row: OperationRow) -> bytes:
    """The public message of an operation, less what the commit decides."""
    message = operation_pb2.Operation(
        id=row.id,
        project_id=row.project_id,
        action=row.action.value,  # type: ignore[arg-type]  # numbers are those of the contract
        state=row.state.value,  # type: ignore[arg-type]  # as above
        phase=row.phase.value,  # type: ignore[arg-type]  # as above
        resource_id=row.resource_id,
        phases=[
            operation_pb2.PhaseEntry(phase=phase.value, start_time=timestamp(at_s))  # type: ignore[arg-type]  # as above
            for phase, at_s in row.phases
        ],
        tries=row.tries,
        progress=row.progress,
        actor=row.actor,
        request_id=row.request_id,
        create_time=timestamp(row.created_at_s),
    )
    if row.ended_at_s:
        message.end_time.CopyFrom(timestamp(row.ended_at_s))
    if row.fault is not None:
        message.error.CopyFrom(
            operation_pb2.OperationError(
                code=row.fault.code,
                reason=row.fault.reason,
                message=row.fault.message,
                metadata=row.fault.metadata,
            )
        )
    return message.SerializeToString()


def operation_from(body: bytes, version: int, revision: int) -> OperationRow:
    """An operation from its stored form."""
    message = operation_pb2.Operation.FromString(body)
    fault = None
    if message.HasField("error"):
        error = message.error
        fault = OperationFault(error.code, error.reason, error.message, dict(error.metadata))
    return OperationRow(
        id=message.id,
        project_id=message.project_id,
        resource_id=message.resource_id,
        action=OperationAction(message.action),
        state=OperationState(message.state),
        phases=tuple((Phase(e.phase), seconds(e.start_time)) for e in message.phases),
        actor=message.actor,
        request_id=message.request_id,
        created_at_s=seconds(message.create_time),
        ended_at_s=seconds(message.end_time) if message.HasField("end_time") else 0.0,
        fault=fault,
        tries=message.tries,
        progress=message.progress,
        version=version,
        revision=revision,
    )


def flavor_body(row: FlavorRow) -> bytes:
    """The public message of a flavor, less what the commit decides."""
    return flavor_pb2.Flavor(
        id=row.id,
        name=row.name,
        vcpus=row.resources.vcpus,
        memory_mib=row.resources.memory_mib,
        disk_gib=row.resources.disk_gib,
        create_time=timestamp(row.created_at_s),
    ).SerializeToString()


def flavor_from(body: bytes, version: int, revision: int) -> FlavorRow:
    """A living flavor from its stored form."""
    message = flavor_pb2.Flavor.FromString(body)
    return FlavorRow(
        id=message.id,
        name=message.name,
        resources=Resources(message.vcpus, message.memory_mib, message.disk_gib),
        created_at_s=seconds(message.create_time),
        version=version,
        revision=revision,
    )


def image_body(row: ImageRow) -> bytes:
    """The public message of an image, less what the commit decides."""
    states, visibilities = image_pb2.ImageState, image_pb2.ImageVisibility
    return image_pb2.Image(
        id=row.id,
        name=row.name,
        project_id=row.project_id,
        state=states.IMAGE_STATE_DELETED if row.deleted else states.IMAGE_STATE_READY,
        kind=row.reference.kind.value,  # type: ignore[arg-type]  # numbers are those of the contract
        architecture=row.reference.architecture.value,  # type: ignore[arg-type]  # as above
        digest=row.reference.digest,
        size_bytes=row.reference.size_bytes,
        min_disk_gib=row.min_disk_gib,
        visibility=(
            visibilities.IMAGE_VISIBILITY_PUBLIC
            if row.public
            else visibilities.IMAGE_VISIBILITY_PRIVATE
        ),
        create_time=timestamp(row.created_at_s),
    ).SerializeToString()


def image_from(body: bytes, version: int, revision: int) -> ImageRow:
    """A living image from its stored form."""
    message = image_pb2.Image.FromString(body)
    return ImageRow(
        id=message.id,
        project_id=message.project_id,
        name=message.name,
        reference=ImageReference(
            message.digest,
            message.size_bytes,
            ImageKind(message.kind),
            Architecture(message.architecture),
        ),
        min_disk_gib=message.min_disk_gib,
        public=message.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC,
        created_at_s=seconds(message.create_time),
        version=version,
        revision=revision,
    )


def host_body(row: HostRow) -> bytes:
    """The public message of a host, less what the commit decides."""
    message = host_pb2.Host(
        id=row.id,
        state=row.state.value,  # type: ignore[arg-type]  # numbers are those of the contract
        enabled=row.enabled,
        capacity=amounts(row.capacity),
        reserved=amounts(row.reserved),
        overcommit=host_pb2.OvercommitRatio(
            vcpus_permille=row.overcommit.vcpus_permille,
            memory_permille=row.overcommit.memory_permille,
            disk_permille=row.overcommit.disk_permille,
        ),
        incarnation=row.incarnation,
        agent_version=row.agent_version,
        create_time=timestamp(row.created_at_s),
    )
    message.capabilities.ParseFromString(row.capabilities)
    return message.SerializeToString()


def host_from(body: bytes, *, machine_id: str, boot_id: str, target: Resources) -> HostRow:
    """A host from its stored form."""
    message = host_pb2.Host.FromString(body)
    ratio = message.overcommit
    return HostRow(
        id=message.id,
        seen_incarnation=message.incarnation,
        machine_id=machine_id,
        boot_id=boot_id,
        state=HostState(message.state),
        enabled=message.enabled,
        incarnation=message.incarnation,
        capacity=resources_from(message.capacity),
        reserved=resources_from(message.reserved),
        overcommit=Overcommit(ratio.vcpus_permille, ratio.memory_permille, ratio.disk_permille),
        target=target,
        capabilities=message.capabilities.SerializeToString(),
        agent_version=message.agent_version,
        created_at_s=seconds(message.create_time),
    )
