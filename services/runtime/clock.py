"""The clock as a port, so that flows can be run under another one."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time and sleep."""

    def now_s(self) -> float:
        """Seconds that only grow."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits."""
        ...


class RealClock:
    """The event loop's own."""

    def now_s(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Waits."""
        await asyncio.sleep(delay_s)
