"""Hands pieces from one task to another, one at a time, so that who sends waits for who takes.

Owns the hand-over and its end. One task puts and one takes; either may be cancelled.
"""

import asyncio
from typing import Generic, TypeVar

Piece = TypeVar("Piece")


class Pipe(Generic[Piece]):
    """Holds at most one piece. Closing ends both sides; a piece that was put before still comes."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._error: Exception | None = None
        self._closed = False
        self._filled = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()

    async def put(self, piece: Piece) -> bool:
        """Waits until the piece before was taken. Gives False, dropping it, where it is closed."""
        await self._free.wait()
        if self._closed:
            return False
        self._free.clear()
        self._pieces.append(piece)
        self._filled.set()
        return True

    async def take(self) -> Piece | None:
        """The next piece, None at the end. Raises the error with which it was closed."""
        await self._filled.wait()
        if self._pieces:
            piece = self._pieces.pop()
            if not self._closed:
                self._filled.clear()
                self._free.set()
            return piece
        if self._error is not None:
            raise self._error
        return None

    def close(self, error: Exception | None = None) -> None:
        """Ends it, with an error or without; the first end counts."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._filled.set()
            self._free.set()
