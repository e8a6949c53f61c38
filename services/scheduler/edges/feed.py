"""The feed: messages of the bus, and stretches of the log, as changes of the fleet."""

from collections.abc import Awaitable, Callable

from stead.internal.v1 import resource_pb2
from stead.v1 import host_pb2

from services.domain.kinds import Architecture, Hypervisor, ImageKind
from services.domain.resources import Resources
from services.runtime.bus import Bus
from services.runtime.subjects import feed
from services.scheduler.flows.ports import ChangeBatch
from services.scheduler.logic.changes import Change
from services.scheduler.logic.fleet import HostRow

# The numbers that this release understands.
ARCHITECTURES = frozenset(map(int, Architecture))
HYPERVISORS = frozenset(map(int, Hypervisor))
IMAGE_KINDS = frozenset(map(int, ImageKind))


async def subscribe(
    bus: Bus, cloud_id: str, receive: Callable[[ChangeBatch], Awaitable[None]]
) -> None:
    """Hands each message of the feed to `receive`, for the life of the process."""

    async def on_message(payload: bytes) -> None:
        await receive(batch_from(resource_pb2.FeedBatch.FromString(payload)))

    await bus.subscribe(feed(cloud_id), on_message)


def batch_from(batch: resource_pb2.FeedBatch) -> ChangeBatch:
    """A stretch of the feed with what it means to the fleet."""
    return ChangeBatch(
        history_id=batch.history_id,
        head_revision=batch.head_revision,
        changes=[change_from(resource) for resource in batch.changes],
    )


def change_from(resource: resource_pb2.Resource) -> Change:
    """One revision. An instance waits no more once it has a claim, or its life is over."""
    if resource.kind == resource_pb2.RESOURCE_KIND_HOST:
        if resource.deleted:
            return Change(resource.revision, gone_host_id=resource.id)
        return Change(resource.revision, host=host_from(resource))
    if resource.kind == resource_pb2.RESOURCE_KIND_INSTANCE and (
        resource.epoch or resource.deleted
    ):
        return Change(resource.revision, settled_instance_id=resource.id)
    return Change(resource.revision)


def host_from(resource: resource_pb2.Resource) -> HostRow:
    """A host's row: what it says of itself from the body, what is promised from the ledger."""
    host = host_pb2.Host.FromString(resource.body)
    able = host.capabilities
    return HostRow(
        id=resource.id,
        revision=resource.revision,
        up=host.state == host_pb2.HOST_STATE_UP,
        enabled=host.enabled,
        target=resources_from(resource.ledger.target),
        used=resources_from(resource.ledger.used),
        claims=resource.ledger.claims,
        architectures=tuple(Architecture(a) for a in able.architectures if a in ARCHITECTURES),
        hypervisor=Hypervisor(able.hypervisor) if able.hypervisor in HYPERVISORS else None,
        image_kinds=tuple(ImageKind(k) for k in able.image_kinds if k in IMAGE_KINDS),
    )


def resources_from(resources: host_pb2.Resources) -> Resources:
    """An amount."""
    return Resources(resources.vcpus, resources.memory_mib, resources.disk_gib)
