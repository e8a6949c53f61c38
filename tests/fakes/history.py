"""A history that goes on until a test ends it: what `attend_host` asks of the feed."""

from __future__ import annotations

import asyncio


class OneHistory:
    """Implements `api.flows.attend_host.History`."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def until_history_over(self) -> None:
        await self.over.wait()
