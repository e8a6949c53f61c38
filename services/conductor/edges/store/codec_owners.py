"""Those to whom instances belong as bytes: hosts, which carry them, and projects, which own them.

Owns their mapping to stead.v1 messages; what is not in the bytes is said in `codec`.
"""

from collections.abc import Sequence

from stead.v1 import host_pb2, project_pb2

from services.conductor.edges.store.codec import seconds, timestamp
from services.conductor.logic.rows import Fence, HostRow, ProjectRow
from services.domain.instance import Action
from services.domain.kinds import FenceKind, HostState
from services.domain.resources import Overcommit, QuotaAmounts, Resources


def _amounts(resources: Resources) -> host_pb2.Resources:
    """The public form of an amount."""
    return host_pb2.Resources(
        vcpus=resources.vcpus, memory_mib=resources.memory_mib, disk_gib=resources.disk_gib
    )


def _resources_from(message: host_pb2.Resources) -> Resources:
    """An amount from its public form."""
    return Resources(message.vcpus, message.memory_mib, message.disk_gib)


def host_body(row: HostRow) -> bytes:
    """The public message of a host, less what the commit decides."""
    message = host_pb2.Host(
        id=row.id,
        state=row.state.value,  # type: ignore[arg-type]  # numbers are those of the contract
        enabled=row.enabled,
        capacity=_amounts(row.capacity),
        reserved=_amounts(row.reserved),
        overcommit=host_pb2.OvercommitRatio(
            vcpus_permille=row.overcommit.vcpus_permille,
            memory_permille=row.overcommit.memory_permille,
            disk_permille=row.overcommit.disk_permille,
        ),
        incarnation=row.incarnation,
        agent_version=row.agent_version,
        create_time=timestamp(row.created_at_s),
        disabled_reason=row.disabled_reason,
    )
    message.capabilities.ParseFromString(row.capabilities)
    if row.fence is not None:
        message.fence.CopyFrom(
            host_pb2.HostFence(
                incarnation=row.fence.incarnation,
                kind=row.fence.how.value,  # type: ignore[arg-type]  # numbers are those of the contract
                actor=row.fence.by,
                reason=row.fence.reason,
                fence_time=timestamp(row.fence.at_s),
            )
        )
    return message.SerializeToString()


def host_from(
    body: bytes, edition: int, *, machine_id: str, boot_id: str, target: Resources
) -> HostRow:
    """A host from its stored form."""
    message = host_pb2.Host.FromString(body)
    ratio = message.overcommit
    return HostRow(
        id=message.id,
        seen_edition=edition,
        machine_id=machine_id,
        boot_id=boot_id,
        state=HostState(message.state),
        enabled=message.enabled,
        incarnation=message.incarnation,
        capacity=_resources_from(message.capacity),
        reserved=_resources_from(message.reserved),
        overcommit=Overcommit(ratio.vcpus_permille, ratio.memory_permille, ratio.disk_permille),
        target=target,
        capabilities=message.capabilities.SerializeToString(),
        agent_version=message.agent_version,
        created_at_s=seconds(message.create_time),
        disabled_reason=message.disabled_reason,
        fence=_fence_from(message.fence) if message.HasField("fence") else None,
        lacks=_lacks(message.capabilities),
    )


def _lacks(capabilities: host_pb2.DriverCapabilities) -> frozenset[Action]:
    """What an agent does not say that it can do, it cannot."""
    can_pause, can_suspend = capabilities.pause, capabilities.suspend
    pausing = frozenset() if can_pause else frozenset({Action.PAUSE, Action.UNPAUSE})
    return pausing | (frozenset() if can_suspend else frozenset({Action.SUSPEND, Action.RESUME}))


def _fence_from(message: host_pb2.HostFence) -> Fence:
    return Fence(
        message.incarnation,
        FenceKind(message.kind),
        message.actor,
        message.reason,
        seconds(message.fence_time),
    )


def liveness_from(body: bytes) -> tuple[int, HostState]:
    """A host's incarnation and state from its stored form."""
    message = host_pb2.Host.FromString(body)
    return message.incarnation, HostState(message.state)


def project_body(row: ProjectRow) -> bytes:
    """The public message of a project, less what the commit decides."""
    return project_pb2.Project(
        id=row.id, display_name=row.display_name, create_time=timestamp(row.created_at_s)
    ).SerializeToString()


def project_from(
    project_id: str, body: bytes, ledger: Sequence[int | None], *, version: int, revision: int
) -> ProjectRow:
    """A project from its stored form; of one that nobody has made known, or that is deleted,
    version is 0 and body empty. `ledger` as the change log has it.
    """
    message = project_pb2.Project.FromString(body)
    return ProjectRow(
        id=project_id,
        display_name=message.display_name,
        created_at_s=seconds(message.create_time),
        limits=limits_of(ledger),
        used=used_of(ledger),
        version=version,
        revision=revision,
    )


def limits_of(ledger: Sequence[int | None]) -> QuotaAmounts | None:
    """A project's own limits, the first four of its ledger; None where the usual ones hold."""
    instances, vcpus, memory_mib, disk_gib = ledger[:4]
    if instances is None or vcpus is None or memory_mib is None or disk_gib is None:
        return None
    return QuotaAmounts(instances, vcpus, memory_mib, disk_gib)


def used_of(ledger: Sequence[int | None]) -> QuotaAmounts:
    """What a project uses, the last four of its ledger."""
    return QuotaAmounts(*(amount or 0 for amount in ledger[4:8]))
