"""Follows what guests write: one look at a time per guest that somebody reads, none where nobody
does.

Owns how often it is looked. Does not own who reads, nor from where.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from services.compute.flows.ports import Driver, StepFailed
from services.compute.logic.guest import Identity
from services.runtime.log import logger

LOOK_S_MIN = 0.02
LOOK_S_MAX = 0.25
SLOWER = 1.5


class Followed:
    """The growing console of one guest."""

    def __init__(self, driver: Driver, identity: Identity) -> None:
        self.readers = 0
        self._driver = driver
        self._identity = identity
        self._end_offset = 0
        self._gone: StepFailed | None = None
        self._grown = asyncio.Condition()
        self.looking = asyncio.get_running_loop().create_task(self._look())

    async def grown_beyond(self, offset: int) -> None:
        """Waits until there is something from `offset` on. Raises StepFailed (CONSOLE_NOT_READY)
        when the guest is gone.
        """
        async with self._grown:
            await self._grown.wait_for(lambda: self._gone or self._end_offset > offset)
        if self._gone is not None:
            raise StepFailed(self._gone.reason, self._gone.message)

    async def _look(self) -> None:
        pause_s = LOOK_S_MIN
        while self._gone is None:
            end_offset = self._end_offset
            try:
                piece = await self._driver.read_console_from(self._identity, None, 0)
                end_offset = piece.end_offset
            except StepFailed as gone:
                self._gone = gone
            except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again
                logger().warning("console not read", error=repr(error))
            changed = end_offset != self._end_offset
            pause_s = LOOK_S_MIN if changed else min(LOOK_S_MAX, pause_s * SLOWER)
            self._end_offset = end_offset
            if changed or self._gone is not None:
                async with self._grown:
                    self._grown.notify_all()
            await asyncio.sleep(pause_s)


class Followers:
    """The followed consoles of one host."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._followed: dict[Identity, Followed] = {}

    @contextlib.contextmanager
    def follow(self, identity: Identity) -> Iterator[Followed]:
        """Follows a guest's console for one more reader; the last one to leave ends it."""
        followed = self._followed.get(identity)
        if followed is None or followed.looking.done():
            followed = self._followed[identity] = Followed(self._driver, identity)
        followed.readers += 1
        try:
            yield followed
        finally:
            followed.readers -= 1
            if followed.readers == 0:
                followed.looking.cancel()
                if self._followed.get(identity) is followed:
                    del self._followed[identity]
