"""The bus as api uses it: hears the feed, and sends questions to hosts.

Owns that api starts, and serves, without the bus: the feed is then read from the log, and consoles
wait.
"""

import asyncio

from stead.internal.v1 import compute_pb2, resource_pb2

from services.api.edges.conductor_messages import changes_from
from services.api.flows.follow_feed import Feed
from services.api.flows.ports import ConsoleLogAsk, ConsoleOpening, Question
from services.domain.errors import Unavailable
from services.runtime import bus, subjects


class Questions:
    """Implements `flows.ports.Questions`."""

    def __init__(self, cloud_id: str, ingress_endpoint: str) -> None:
        self._cloud_id = cloud_id
        self._ingress_endpoint = ingress_endpoint
        self._bus: bus.Bus | None = None

    def use(self, connected: bus.Bus | None) -> None:
        """Takes the bus into use when it is there."""
        self._bus = connected

    async def ask(self, question: Question) -> None:
        """Sends it. Raises Unavailable (HOST_UNREACHABLE) where it cannot leave."""
        if self._bus is None or not self._bus.connected:
            raise Unavailable("HOST_UNREACHABLE", "hosts cannot be asked now; try again")
        message = compute_pb2.Question(
            ticket=question.ticket,
            instance_id=question.instance_id,
            epoch=question.epoch,
            ingress_endpoint=self._ingress_endpoint,
        )
        match question.ask:
            case ConsoleLogAsk(max_bytes):
                message.console_log.max_bytes = max_bytes
            case ConsoleOpening(offset, write, take_over):
                message.console.CopyFrom(
                    compute_pb2.ConsoleAsk(offset=offset, write=write, take_over=take_over)
                )
        subject = subjects.host_question(self._cloud_id, question.host_id)
        await self._bus.publish(subject, message.SerializeToString())


async def follow_bus(
    url: str, credential: tuple[str, str] | None, cloud_id: str, *, feed: Feed, questions: Questions
) -> None:
    """Connects, however long that takes, and stays until cancelled."""

    async def on_feed(payload: bytes) -> None:
        await feed.receive(changes_from(resource_pb2.FeedBatch.FromString(payload)))

    connected = await bus.connect(url, name="stead.api", credential=credential)
    try:
        await connected.subscribe(subjects.feed(cloud_id), on_feed)
        questions.use(connected)
        await asyncio.Event().wait()
    finally:
        questions.use(None)
        await connected.close()
