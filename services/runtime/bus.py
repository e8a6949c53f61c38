"""The bus: NATS as a wake-up and fan-out that may lose anything.

Owns the connection and the 256 KiB bound. Publishing while disconnected is dropped: rows say it
again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.runtime.log import logger

MESSAGE_BYTES_MAX = 256 * 1024
# What may wait for one who receives; more is dropped, and said again by rows.
PENDING_MESSAGES_MAX = 16_384
PENDING_BYTES_MAX = 32 * 1024 * 1024
STOP_S = 1.0
TOLD_EVERY_S = 60.0

Item = TypeVar("Item")


class Bus:
    """One connection, kept for the life of the process and re-made for ever."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def connected(self) -> bool:
        """Whether a message sent now would leave."""
        return bool(self._client.is_connected)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Sends, or drops while disconnected and what cannot be sent: no work of the sender's may
        fail because the bus did.
        """
        if not self._client.is_connected:
            return
        try:
            await self._client.publish(subject, payload)
        except nats.errors.Error as error:
            logger().warning("bus message dropped", subject=subject, error=repr(error))

    async def subscribe(
        self, subject: str, receive: Callable[[bytes], Awaitable[None]], queue: str = ""
    ) -> Callable[[], Awaitable[None]]:
        """Calls `receive` for each message, one after another. Gives back the way to stop: what has
        come by then is still received.
        """

        async def on_message(message: Msg) -> None:
            try:
                await receive(message.data)
            except Exception:  # noqa: BLE001  # one bad message must not end the subscription
                logger().exception("bus message failed", subject=subject)

        subscription = await self._client.subscribe(
            subject,
            queue=queue,
            cb=on_message,
            pending_msgs_limit=PENDING_MESSAGES_MAX,
            pending_bytes_limit=PENDING_BYTES_MAX,
        )

        async def stop() -> None:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await subscription.drain()  # type: ignore[no-untyped-call]  # its stubs say nothing

        return stop

    async def close(self) -> None:
        """Ends the connection."""
        await self._client.close()


class Troubles:
    """Logs what troubles the bus, each kind once in `TOLD_EVERY_S`: one who is too slow has the
    same trouble with every message, and the next outage must be told again.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told_at: dict[str, float] = {}

    async def tell(self, error: Exception) -> None:
        """Logs it, unless one of its kind was just told."""
        kind, now = type(error).__name__, self._now()
        if now - self._told_at.get(kind, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told_at[kind] = now
            logger().warning("bus trouble", error=repr(error))


async def connect(url: str, *, name: str, credential: tuple[str, str] | None) -> Bus:
    """Connects, waiting until the server is there; afterwards reconnects for ever."""
    user, password = credential or (None, None)
    client = await nats.connect(
        url,
        name=name,
        user=user,
        password=password,
        error_cb=Troubles(asyncio.get_running_loop().time).tell,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,
        ping_interval=5,
        max_outstanding_pings=2,
        pending_size=-1,
        allow_reconnect=True,
    )
    return Bus(client)


def chunks(sized: Iterable[tuple[Item, int]], bytes_max: int) -> Iterator[list[Item]]:
    """Splits (item, size in bytes) pairs into lists whose sizes add up to at most `bytes_max`."""
    chunk: list[Item] = []
    total = 0
    for item, size in sized:
        if chunk and total + size > bytes_max:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size
    if chunk:
        yield chunk
