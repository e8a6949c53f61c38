"""Forgets requests that were remembered long enough, a small piece at a time.

Owns the size of a piece and how many there are in one round: a statement stays short whatever has
piled up, and what is left goes in the next round. Source: MECHANICS B6.
"""

from typing import Protocol

from services.runtime.log import logger

PIECE = 500
PIECES_MAX = 40


class Requests(Protocol):
    """The remembered requests."""

    async def requests_sweep(self, keep_s: float, limit: int) -> int:
        """Forgets at most `limit` that are older than `keep_s`; how many."""
        ...


class Sweeper:
    """Sweeps what is older than `keep_s`."""

    def __init__(self, store: Requests, keep_s: float) -> None:
        self._store = store
        self._keep_s = keep_s

    async def sweep(self) -> int:
        """One round; how many requests were forgotten. Raises Unavailable."""
        forgotten = 0
        for _ in range(PIECES_MAX):
            piece = await self._store.requests_sweep(self._keep_s, PIECE)
            forgotten += piece
            if piece < PIECE:
                break
        if forgotten:
            logger().info("requests forgotten", count=forgotten)
        return forgotten
