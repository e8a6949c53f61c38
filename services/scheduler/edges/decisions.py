"""Decisions: what goes to the conductors over the bus, in messages that it carries."""

from collections.abc import Sequence

from stead.internal.v1 import scheduler_pb2

from services.runtime.bus import MESSAGE_BYTES_MAX, Bus, chunks
from services.runtime.subjects import decided
from services.scheduler.logic.request import Outcome, Placed

# Each decision has a tag and a length in front of it, and the message one field more.
FRAME_BYTES = 8
HEADER_BYTES = 32


class DecisionMessages:
    """Implements `flows.ports.Decisions`."""

    def __init__(self, bus: Bus, cloud_id: str) -> None:
        self._bus = bus
        self._subject = decided(cloud_id)

    async def publish(self, outcomes: Sequence[Outcome], fleet_revision: int) -> None:
        decisions = [decision_of(outcome) for outcome in outcomes]
        sized = ((decision, decision.ByteSize() + FRAME_BYTES) for decision in decisions)
        for chunk in chunks(sized, MESSAGE_BYTES_MAX - HEADER_BYTES):
            batch = scheduler_pb2.DecisionBatch(decisions=chunk, fleet_revision=fleet_revision)
            await self._bus.publish(self._subject, batch.SerializeToString())


def decision_of(outcome: Outcome) -> scheduler_pb2.Decision:
    """One answer; a refusal has no host."""
    decision = scheduler_pb2.Decision(
        instance_id=outcome.request.instance_id,
        attempt=outcome.request.attempt,
        hosts=outcome.hosts,
        rejected=[
            scheduler_pb2.FilterCount(filter=rejection.filter, hosts=rejection.hosts)
            for rejection in outcome.rejections
        ],
    )
    if isinstance(outcome, Placed):
        decision.host_id = outcome.host_id
        decision.runner_up_ids.extend(outcome.runner_up_ids)
    return decision
