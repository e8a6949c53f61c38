"""The conductor's side of the bus: requests for hosts, commands, the feed out; decisions in."""

from collections.abc import Awaitable, Callable, Sequence

from stead.internal.v1 import compute_pb2, resource_pb2, scheduler_pb2

from services.conductor.edges import messages
from services.conductor.flows.decide import Decider, Decision
from services.conductor.flows.ports import CloudIdentity
from services.conductor.logic.items import Record
from services.conductor.logic.steps import Command, Place
from services.domain.errors import NoCapacity, Unavailable
from services.domain.trace import UNTRACED
from services.runtime import subjects
from services.runtime.bus import MESSAGE_BYTES_MAX, Bus, chunks
from services.runtime.log import logger

# What a batch's own fields and the framing of its items may add.
ROOM = MESSAGE_BYTES_MAX - 8 * 1024


class NatsBus:
    """Implements `flows.ports.Bus`."""

    def __init__(self, bus: Bus, cloud: CloudIdentity) -> None:
        self._bus = bus
        self._cloud = cloud

    async def place(self, places: Sequence[Place], min_revision: int) -> None:
        """Asks the schedulers for hosts."""
        requests = [_place_request(place, min_revision) for place in places]
        for chunk in chunks(((r, r.ByteSize() + 8) for r in requests), ROOM):
            batch = scheduler_pb2.PlaceBatch(requests=chunk)
            await self._bus.publish(subjects.place(self._cloud.cloud_id), batch.SerializeToString())

    async def command(self, host_id: str, incarnation: int, commands: Sequence[Command]) -> None:
        """Tells one host what is wanted."""
        subject = subjects.host_command(self._cloud.cloud_id, host_id)
        wishes = [messages.wanted(c.instance, c.claim, c.trace) for c in commands]
        for chunk in chunks(((w, w.ByteSize() + 8) for w in wishes), ROOM):
            batch = compute_pb2.CommandBatch(host_id=host_id, incarnation=incarnation, wanted=chunk)
            await self._bus.publish(subject, batch.SerializeToString())

    async def ask_inventory(self, host_id: str, incarnation: int, revision: int) -> None:
        """Asks one host for its guests, listed after this commit."""
        subject = subjects.host_command(self._cloud.cloud_id, host_id)
        batch = compute_pb2.CommandBatch(
            host_id=host_id, incarnation=incarnation, inventory_as_of=revision
        )
        await self._bus.publish(subject, batch.SerializeToString())

    async def feed(
        self, records: Sequence[Record], head_revision: int, *, compacted_revision: int
    ) -> None:
        """Publishes changes in the order of their revisions, or the head alone."""
        subject = subjects.feed(self._cloud.cloud_id)
        if not records:
            beat = self._batch((), head_revision, compacted_revision)
            await self._bus.publish(subject, beat.SerializeToString())
        changes = [messages.resource(record) for record in records]
        for chunk in chunks(((c, c.ByteSize() + 8) for c in changes), ROOM):
            batch = self._batch(chunk, chunk[-1].revision, compacted_revision)
            await self._bus.publish(subject, batch.SerializeToString())

    def _batch(
        self, changes: Sequence[resource_pb2.Resource], head: int, compacted: int
    ) -> resource_pb2.FeedBatch:
        return resource_pb2.FeedBatch(
            history_id=self._cloud.history_id,
            head_revision=head,
            changes=changes,
            compacted_revision=compacted,
        )

    async def subscribe_decisions(self, decider: Decider) -> Callable[[], Awaitable[None]]:
        """Gives each batch of decisions to one of the conductors. Gives back the way to stop.

        A batch that cannot be committed now is dropped: its instances still wait for a host, and
        schedulers are asked again (MECHANICS F3). A trouble that lasts is logged once.
        """
        trouble = ""

        async def on_batch(payload: bytes) -> None:
            nonlocal trouble
            batch = scheduler_pb2.DecisionBatch.FromString(payload)
            try:
                await decider.decide([_decision(d) for d in batch.decisions])
            except (Unavailable, NoCapacity) as error:
                if error.reason != trouble:
                    trouble = error.reason
                    logger().warning("decisions dropped", error=repr(error))
            else:
                trouble = ""

        return await self._bus.subscribe(
            subjects.decided(self._cloud.cloud_id), on_batch, queue="conductors"
        )


def _place_request(place: Place, min_revision: int) -> scheduler_pb2.PlaceRequest:
    row = place.instance
    request = scheduler_pb2.PlaceRequest(
        instance_id=row.id,
        attempt=row.attempt,
        min_revision=min_revision,
        architecture=row.wanted.image.architecture.value,  # type: ignore[arg-type]  # numbers are those of the contract
        image_kind=row.wanted.image.kind.value,  # type: ignore[arg-type]  # as above
        excluded_host_ids=row.excluded_host_ids,
    )
    if place.trace != UNTRACED:
        messages.write_trace(request.trace, place.trace)
    request.resources.vcpus = row.resources.vcpus
    request.resources.memory_mib = row.resources.memory_mib
    request.resources.disk_gib = row.resources.disk_gib
    return request


def _decision(message: scheduler_pb2.Decision) -> Decision:
    return Decision(
        instance_id=message.instance_id,
        attempt=message.attempt,
        host_id=message.host_id,
        hosts=message.hosts,
        rejected={count.filter: count.hosts for count in message.rejected},
    )
