"""Gets an image onto this machine, once for all who wait: from the cache or the control plane.

Owns single flight and the retry of corrupt transfers. A transfer that breaks off raises and is
resumed at its offset by the next one who asks. Does not own files.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.compute.flows.image_ports import ImageShelf
from services.compute.flows.ports import StepFailed
from services.compute.logic.wanted import Image
from services.domain.errors import NotFound
from services.runtime.log import logger

TRANSFERS_MAX = 3

ReadBlob = Callable[[str, int], AsyncIterator[bytes]]
"""Reads a blob for one host: `read(digest, offset)`, as `ports.Blobs`."""


@dataclass(slots=True)
class Flight:
    """One image on its way, for any number of guests.

    `received_bytes` counts towards `image.size_bytes`; `waiting` has the road of each who waits.
    """

    image: Image
    landed: asyncio.Task[Path]
    received_bytes: int = 0
    waiting: dict[Callable[[], None], ReadBlob] = field(default_factory=dict)

    @property
    def percent(self) -> int:
        """How much of it is here."""
        return 100 * self.received_bytes // max(1, self.image.size_bytes)


class ImageFetcher:
    """Knows the flights of one shelf; hosts of one process share it."""

    def __init__(self, shelf: ImageShelf) -> None:
        self._shelf = shelf
        self._flights: dict[str, Flight] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def at_hand(self, image: Image) -> Path | None:
        """The image, if nobody has to wait for it."""
        return self._shelf.known(image)

    @asynccontextmanager
    async def join(
        self, image: Image, read: ReadBlob, *, on_landed: Callable[[], None]
    ) -> AsyncIterator[Flight]:
        """Gives the flight of an image, started if there is none; the last to leave ends it.

        `on_landed`, one of its own for each who joins, is called when it is over. `landed` then
        raises StepFailed (the store has no such image, or it is corrupt there), or what broke the
        transfer.
        """
        flight = self._flights.get(image.digest)
        if flight is None:
            flight = self._start(image)
        flight.waiting[on_landed] = read
        try:
            yield flight
        finally:
            del flight.waiting[on_landed]
            if not flight.waiting:
                await self._end(flight)

    def _start(self, image: Image) -> Flight:
        # A flight that is being ended may still write: the next one of its digest waits for it.
        lock = self._locks.setdefault(image.digest, asyncio.Lock())

        async def fly() -> Path:
            async with lock:
                return await self._fetch(flight)

        def tell(_: asyncio.Task[Path]) -> None:
            for on_landed in flight.waiting:
                on_landed()

        flight = Flight(image, asyncio.get_running_loop().create_task(fly()))
        flight.landed.add_done_callback(tell)
        self._flights[image.digest] = flight
        return flight

    async def _end(self, flight: Flight) -> None:
        if self._flights.get(flight.image.digest) is flight:
            del self._flights[flight.image.digest]
        flight.landed.cancel()
        await asyncio.wait({flight.landed})

    async def _fetch(self, flight: Flight) -> Path:
        image = flight.image
        for _ in range(TRANSFERS_MAX):
            path = await self._shelf.find(image) or await self._transfer(flight)
            if path is not None:
                return path
            logger().warning("image arrived corrupt", digest=image.digest)
        raise StepFailed(
            "IMAGE_CORRUPT", f"the image store does not give the bytes of digest {image.digest}"
        )

    async def _transfer(self, flight: Flight) -> Path | None:
        image = flight.image
        draft = await self._shelf.begin(image)
        try:
            flight.received_bytes = draft.size_bytes
            if draft.size_bytes < image.size_bytes:
                # By the road of one who still waits: the first may have lost its claim by now.
                read = next(iter(flight.waiting.values()))
                async for chunk in read(image.digest, draft.size_bytes):
                    await draft.append(chunk)
                    flight.received_bytes = draft.size_bytes
                    if draft.size_bytes > image.size_bytes:
                        break
            return await draft.finish()
        except NotFound as error:
            raise StepFailed(error.reason, error.message) from error
        finally:
            await draft.close()
