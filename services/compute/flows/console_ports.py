"""What a console is to the flows: what a driver gives of it, the questions about it, and the roads
on which they are answered.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from services.compute.logic.guest import Claim
from services.compute.logic.observation import Failure


@dataclass(frozen=True, slots=True)
class ConsoleLog:
    """The end of what a guest wrote to its console.

    `start_offset` is its first byte's place in all that was kept.
    """

    content: bytes
    start_offset: int


@dataclass(frozen=True, slots=True)
class ConsolePiece:
    """Some of what a guest wrote: the bytes from where it was asked on, and where all of it ends.

    `end_offset` is at least the place after `content`.
    """

    content: bytes
    end_offset: int


class Keyboard(Protocol):
    """The way into one guest's serial console."""

    async def write(self, content: bytes) -> None:
        """Types; waits while the guest does not read. Raises StepFailed (CONSOLE_NOT_READY) where
        the guest does not run.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConsoleLogAsk:
    """Asks for the end of a guest's console log."""

    max_bytes: int


@dataclass(frozen=True, slots=True)
class ConsoleAsk:
    """Asks to be joined to a guest's console, from `offset` or, with None, from now on."""

    offset: int | None
    write: bool
    take_over: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one guest; the answer goes to `endpoint` with `ticket`."""

    ticket: str
    endpoint: str
    claim: Claim
    ask: ConsoleLogAsk | ConsoleAsk


class ConsoleLine(Protocol):
    """A console's stream to the replica that asked. Each method raises a CloudError when it is
    lost.
    """

    async def open(self, offset: int) -> None:
        """Says where the bytes begin that follow."""
        ...

    async def send(self, content: bytes) -> None:
        """Sends what the guest wrote; waits while the reader does not read."""
        ...

    async def fail(self, failure: Failure) -> None:
        """Says why it ends, and waits until the replica has it."""
        ...

    async def receive(self) -> bytes | None:
        """What is typed next; None when whoever typed has gone."""
        ...


class Attachments(Protocol):
    """The control plane's door for answers."""

    async def answer(self, question: Question, content: ConsoleLog | Failure) -> None:
        """Dials the replica that asked and gives the answer. Raises a CloudError, TimeoutError."""
        ...

    def join(self, question: Question) -> AbstractAsyncContextManager[ConsoleLine]:
        """Dials the replica that asked for a console; leaving the context hangs up."""
        ...
