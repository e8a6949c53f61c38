"""What a person types, or what comes through a pipe, on its way to a guest.

Owns the raw mode of the terminal, and that it ends whatever happens.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LEAVE = b"\x1d"
LEAVE_READING = (LEAVE, b"\x03")
READ_BYTES = 4096
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Hearer:
    """Who hears of the keys. `quiet_s()` says for how long the guest has written nothing."""

    type: Callable[[bytes], None]
    leave: Callable[[], None]
    quiet_s: Callable[[], float]


class Keyboard:
    """Standard input, read in a thread of its own until it ends or is closed.

    On a terminal Ctrl-] leaves; while only reading, Ctrl-C too. From anything else every byte is
    typed, and at its end the caller leaves once the guest was silent for `linger_s` seconds.
    """

    def __init__(self, hearer: Hearer, *, write: bool, linger_s: float) -> None:
        self._hearer = hearer
        self._write = write
        self._linger_s = linger_s
        self._closed = threading.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Reads what is typed while the block lasts."""
        terminal = has_terminal()
        reader = threading.Thread(target=self._read, args=(terminal,), daemon=True)
        with _raw() if terminal else contextlib.nullcontext():
            if terminal or (self._write and sys.stdin is not None):
                reader.start()
            try:
                yield
            finally:
                self._closed.set()
                if reader.is_alive():
                    reader.join(1)

    def _read(self, terminal: bool) -> None:
        while not self._closed.is_set():
            if not select.select([0], [], [], LOOK_S)[0]:
                continue
            typed = os.read(0, READ_BYTES)
            if not typed:
                self._linger()
                return
            if terminal and (at := self._end_in(typed)) >= 0:
                self._pass_on(typed[:at])
                self._hearer.leave()
                return
            self._pass_on(typed)

    def _pass_on(self, typed: bytes) -> None:
        if typed and self._write:
            self._hearer.type(typed)

    def _end_in(self, typed: bytes) -> int:
        keys = (LEAVE,) if self._write else LEAVE_READING
        found = [at for key in keys if (at := typed.find(key)) >= 0]
        return min(found, default=-1)

    def _linger(self) -> None:
        while not self._closed.is_set() and self._hearer.quiet_s() < self._linger_s:
            time.sleep(LOOK_S)
        self._hearer.leave()


def has_terminal() -> bool:
    """Whether a person types; a command may be started without any standard input."""
    return sys.stdin is not None and sys.stdin.isatty()


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(0)
    deaf = signal.signal(signal.SIGTERM, _interrupted)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, deaf)


def _interrupted(*_: object) -> None:
    # Who ends the command by a signal must get a terminal back that shows what is typed.
    raise KeyboardInterrupt
