"""The way into a guest's serial console: the terminal that QEMU made for it.

Owns the open terminal. What the guest writes comes here too while the terminal is open, and is
thrown away at once: QEMU keeps it in the log, and would hold the guest up if nobody took it.
"""

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Awaitable, Callable

from services.compute.flows.ports import StepFailed

BYTES_AT_ONCE = 1 << 16
OPENS_MAX = 3


class TerminalKeyboard:
    """See `flows.console_ports.Keyboard`. `find` gives the terminal's path while the guest runs."""

    def __init__(self, find: Callable[[], Awaitable[str | None]]) -> None:
        self._find = find
        self._terminal: int | None = None
        self._look_again = asyncio.Event()

    async def connect(self) -> None:
        """Opens the terminal if the guest runs: QEMU looks for who opened it once a second."""
        with contextlib.suppress(StepFailed):
            await self._opened()

    async def write(self, content: bytes) -> None:
        """Types; waits while the guest does not read."""
        left = memoryview(content)
        opens = 0
        while left:
            if self._terminal is None:
                opens += 1
            terminal = await self._opened()
            try:
                left = left[os.write(terminal, left) :]
            except BlockingIOError:
                await self._writable(terminal)
            except OSError as error:
                self.close()
                if opens >= OPENS_MAX:
                    raise _off() from error

    def close(self) -> None:
        """Lets go of the terminal."""
        if self._terminal is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._terminal)
            loop.remove_writer(self._terminal)
            os.close(self._terminal)
            self._terminal = None
            self._look_again.set()

    async def _opened(self) -> int:
        if self._terminal is None:
            path = await self._find()
            if path is None:
                raise _off()
            try:
                self._terminal = _open_raw(path)
            except (OSError, termios.error) as error:
                # QEMU may end between any two of these.
                raise _off() from error
            asyncio.get_running_loop().add_reader(self._terminal, self._throw_away)
        return self._terminal

    def _throw_away(self) -> None:
        assert self._terminal is not None
        try:
            if not os.read(self._terminal, BYTES_AT_ONCE):
                self.close()
        except BlockingIOError:
            return
        except OSError:
            # QEMU has gone; its next one has another terminal.
            self.close()

    async def _writable(self, terminal: int) -> None:
        loop = asyncio.get_running_loop()
        self._look_again.clear()
        loop.add_writer(terminal, self._look_again.set)
        try:
            await self._look_again.wait()
        finally:
            if self._terminal == terminal:
                loop.remove_writer(terminal)


def _open_raw(path: str) -> int:
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        tty.setraw(terminal)
    except BaseException:
        os.close(terminal)
        raise
    return terminal


def _off() -> StepFailed:
    return StepFailed("CONSOLE_NOT_READY", "the guest does not run: nobody reads what is typed")
