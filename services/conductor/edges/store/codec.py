"""Instances and operations as bytes: what of a row is stored as the public message, and how it is
read back.

Owns the mapping between rows and stead.v1 messages, with `codec_catalog` and `codec_owners`.
Version, revision, epoch, etag and the ledger are never in the bytes: the commit decides them,
readers add them.
"""

from google.protobuf.timestamp_pb2 import Timestamp
from stead.internal.v1 import compute_pb2
from stead.v1 import instance_pb2, operation_pb2

from services.conductor.logic.rows import (
    ImageReference,
    InstanceRow,
    OperationFault,
    OperationRow,
    Wanted,
)
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.trace import Trace


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


def spec_of(row: InstanceRow) -> compute_pb2.Spec:
    """What is wanted of the instance, as hosts get it."""
    wanted = row.wanted
    return compute_pb2.Spec(
        present=wanted.present,
        run=wanted.run,
        power=wanted.power.value,  # type: ignore[arg-type]  # numbers are those of the contract
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
        grace_s=wanted.grace_s,
    )


def wanted_from(spec: compute_pb2.Spec) -> Wanted:
    """What is wanted, from its stored form."""
    return Wanted(
        present=spec.present,
        power=power_from(spec),
        boot=spec.boot,
        image=ImageReference(
            spec.image.digest,
            spec.image.size_bytes,
            ImageKind(spec.image.kind),
            Architecture(spec.image.architecture),
        ),
        ssh_public_keys=tuple(spec.ssh_public_keys),
        user_data=spec.user_data,
        grace_s=spec.grace_s,
    )


def power_from(spec: compute_pb2.Spec) -> Power:
    """How the guest shall be; older releases wrote only whether it shall run."""
    if spec.power:
        return Power(spec.power)
    return Power.RUNNING if spec.run else Power.OFF


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
        correlation_id=row.trace.correlation_id,
        traceparent=row.trace.traceparent,
    )
    if row.ended_at_s:
        message.end_time.CopyFrom(timestamp(row.ended_at_s))
    if row.fault is not None:
        message.error.CopyFrom(_error_of(row.fault))
    if row.last_fault is not None:
        message.last_error.CopyFrom(_error_of(row.last_fault))
    if row.deadline_at_s and not row.finished:
        message.deadline_time.CopyFrom(timestamp(row.deadline_at_s))
    return message.SerializeToString()


def _error_of(fault: OperationFault) -> operation_pb2.OperationError:
    return operation_pb2.OperationError(
        code=fault.code, reason=fault.reason, message=fault.message, metadata=fault.metadata
    )


def _fault_from(message: operation_pb2.Operation, field: str) -> OperationFault | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # the two fields that are errors
        return None
    error = getattr(message, field)
    return OperationFault(error.code, error.reason, error.message, dict(error.metadata))


def operation_from(body: bytes, version: int, revision: int) -> OperationRow:
    """An operation from its stored form."""
    message = operation_pb2.Operation.FromString(body)
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
        fault=_fault_from(message, "error"),
        tries=message.tries,
        progress=message.progress,
        last_fault=_fault_from(message, "last_error"),
        deadline_at_s=(
            seconds(message.deadline_time) if message.HasField("deadline_time") else 0.0
        ),
        trace=Trace(message.correlation_id, message.traceparent),
        version=version,
        revision=revision,
    )
