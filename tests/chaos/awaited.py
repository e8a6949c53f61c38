"""Waiting until something holds, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY_S = 0.05


async def until(holds: Callable[[], bool], within_s: float, every_s: float = EVERY_S) -> None:
    """Returns once `holds` does. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            if holds():
                return
            await asyncio.sleep(every_s)
