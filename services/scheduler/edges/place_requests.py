"""Place requests: the queue that schedulers share. Each message reaches one of them."""

from collections.abc import Awaitable, Callable, Iterable

from stead.internal.v1 import scheduler_pb2

from services.domain.kinds import Architecture, ImageKind
from services.domain.trace import Trace
from services.runtime.bus import Bus
from services.runtime.log import logger
from services.runtime.subjects import place
from services.scheduler.edges.feed import ARCHITECTURES, IMAGE_KINDS, resources_from
from services.scheduler.logic.request import Request, Shape

QUEUE_GROUP = "schedulers"


async def subscribe(
    bus: Bus, cloud_id: str, take: Callable[[Iterable[Request]], None]
) -> Callable[[], Awaitable[None]]:
    """Hands requests to `take` until the returned function is called; then others of the group get
    them.
    """

    async def on_message(payload: bytes) -> None:
        take(requests_from(scheduler_pb2.PlaceBatch.FromString(payload)))

    return await bus.subscribe(place(cloud_id), on_message, queue=QUEUE_GROUP)


def requests_from(batch: scheduler_pb2.PlaceBatch) -> list[Request]:
    """The requests that this release understands; another release may answer the others."""
    known = [r for r in batch.requests if _is_known(r)]
    if len(known) < len(batch.requests):
        logger().warning("place requests not understood", count=len(batch.requests) - len(known))
    return [_request_from(request) for request in known]


def _is_known(request: scheduler_pb2.PlaceRequest) -> bool:
    return request.architecture in ARCHITECTURES and request.image_kind in IMAGE_KINDS


def _request_from(request: scheduler_pb2.PlaceRequest) -> Request:
    return Request(
        instance_id=request.instance_id,
        attempt=request.attempt,
        min_revision=request.min_revision,
        shape=Shape(
            resources=resources_from(request.resources),
            architecture=Architecture(request.architecture),
            image_kind=ImageKind(request.image_kind),
            excluded_host_ids=frozenset(request.excluded_host_ids),
        ),
        trace=Trace(request.trace.correlation_id, request.trace.traceparent),
    )
