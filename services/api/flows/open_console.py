"""Joins a user's stream with a guest's console: asks the host over the bus, which dials in, and
carries bytes both ways, each only as fast as the other side takes them.

Owns the line between user and host, and counts the bytes, so that a user can go on where a lost
line ended; and that it ends with the user's token. Who may type is the host's to decide: all
replicas meet there. Source: MECHANICS D6.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

from services.api.flows.ports import Conductor, ConsoleOpening, Question
from services.api.flows.read_console import (
    ATTACH_S,
    AttachPart,
    ConsoleRoad,
    HostFailure,
    LineOpened,
    guest_of,
    host_full,
    not_ready,
    unreachable,
)
from services.api.logic.caller import Caller
from services.api.logic.row import Row
from services.domain.errors import (
    CloudError,
    Conflict,
    Invalid,
    OutOfRange,
    Unauthenticated,
    WrongState,
)
from services.runtime.log import logger
from services.runtime.pipe import Pipe

OPENING_S = 30.0
OPENED_S = 15.0
PIECE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Opening:
    """How a user opens a console."""

    instance_id: str
    console: ConsoleOpening


@dataclass(frozen=True, slots=True)
class Output:
    """What the guest wrote, and the position after it, in bytes."""

    content: bytes
    end_offset: int


Said = Opening | bytes
Told = LineOpened | Output


class Line:
    """The line between one user and one host, from the question on."""

    def __init__(self) -> None:
        # Also set where it ends before its host came.
        self.attached = asyncio.Event()
        self._told: Pipe[Told] = Pipe()
        self._typed: Pipe[bytes] = Pipe()

    async def type(self, content: bytes) -> bool:
        """Sends to the host; waits while it does not take it. Gives False once the line ended."""
        return await self._typed.put(content)

    async def hear(self) -> Told | None:
        """The next of the host, None when the line was closed. Raises why it ended."""
        return await self._told.take()

    def close(self, why: Exception | None = None) -> None:
        """Ends the line at both sides; the first cause counts."""
        self._told.close(why)
        self._typed.close()
        self.attached.set()

    async def carry(self, parts: AsyncIterator[AttachPart]) -> AsyncGenerator[bytes, None]:
        """Takes the host's answer; gives what is typed, until the line ends."""
        self.attached.set()
        listening = asyncio.ensure_future(self._listen(parts))
        try:
            while (content := await self._typed.take()) is not None:
                yield content
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            self.close(unreachable())

    async def _listen(self, parts: AsyncIterator[AttachPart]) -> None:
        end_offset: int | None = None
        try:
            async for part in parts:
                match part:
                    case LineOpened(offset) if end_offset is None and offset >= 0:
                        end_offset = part.offset
                        await self._told.put(part)
                    case bytes() if end_offset is not None and len(part) <= PIECE_BYTES_MAX:
                        end_offset += len(part)
                        if not await self._told.put(Output(part, end_offset)):
                            return
                    case HostFailure():
                        self.close(_refusal(part))
                        return
                    case _:
                        logger().warning("a host broke the order of a console's parts")
                        return
        finally:
            # A host that goes without a word may come back: its user opens again.
            self.close(unreachable())


async def open_console(
    conductor: Conductor,
    road: ConsoleRoad,
    caller: Caller,
    said: AsyncIterator[Said],
    *,
    host_of: Callable[[Row], str],
) -> AsyncGenerator[Told, None]:
    """Tells where the console begins, then what the guest writes, until the user goes. Raises
    NotFound, Invalid, WrongState (CONSOLE_NOT_READY, CONSOLE_IN_USE, CONSOLE_READ_ONLY), Conflict
    (CONSOLE_TAKEN_OVER), OutOfRange (CONSOLE_OFFSET_GONE), NoCapacity (LANE_FULL,
    TOO_MANY_CONSOLES), Unavailable, Unauthenticated (TOKEN_EXPIRED).
    """
    opening = await _opening(said)
    row, host_id = await guest_of(conductor, caller, opening.instance_id, host_of=host_of)
    line = Line()
    # A timer of the line, not of each wait: where the guest never stops nothing waits, and where
    # the user does not read this stands still, but host and keyboard must go free.
    ending = asyncio.get_running_loop().call_later(
        caller.expires_at_s - time.time(), line.close, _expired()
    )
    typing: asyncio.Future[None] | None = None
    try:
        with road.tickets.issued(line, caller.project_id) as ticket, road.tickets.kept(line):
            question = Question(ticket, host_id, row.id, row.epoch, opening.console)
            yield await _opened(line, road, question)
            typing = asyncio.ensure_future(_type(line, said))
            while (told := await line.hear()) is not None:
                yield told
    finally:
        ending.cancel()
        line.close()
        if typing is not None:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)


async def _opening(said: AsyncIterator[Said]) -> Opening:
    try:
        async with asyncio.timeout(OPENING_S):
            first = await anext(said, None)
    except TimeoutError:
        first = None
    if not isinstance(first, Opening):
        raise Invalid("INVALID_FIELD", "the first message opens the console", field="opening")
    return first


async def _opened(line: Line, road: ConsoleRoad, question: Question) -> Told:
    await road.questions.ask(question)
    try:
        async with asyncio.timeout(ATTACH_S):
            await line.attached.wait()
        async with asyncio.timeout(OPENED_S):
            told = await line.hear()
    except TimeoutError:
        raise unreachable() from None
    if told is None:
        raise unreachable()
    return told


def _expired() -> Unauthenticated:
    return Unauthenticated(
        "TOKEN_EXPIRED", "the token of this console has expired; ask for a new one"
    )


async def _type(line: Line, said: AsyncIterator[Said]) -> None:
    """A user that says no more goes on reading."""
    try:
        async for word in said:
            if isinstance(word, Opening):
                raise Invalid("INVALID_FIELD", "a console is opened once", field="opening")
            if not await line.type(word):
                return
    except Exception as refused:  # noqa: BLE001  # whatever it is, the user's stream raises it
        line.close(refused)


def _refusal(failure: HostFailure) -> CloudError:
    """What a user is told of a host's word: the host is the least trusted part, its text is not."""
    logger().info("console ended", reason=failure.reason, said=failure.message)
    match failure.reason:
        case "CONSOLE_NOT_READY":
            return not_ready("there is no guest on whose console to look or type")
        case "CONSOLE_IN_USE":
            return WrongState(
                "CONSOLE_IN_USE", "somebody else types; read only, or take the keyboard over"
            )
        case "CONSOLE_READ_ONLY":
            return WrongState("CONSOLE_READ_ONLY", "this console was not opened for writing")
        case "CONSOLE_TAKEN_OVER":
            return Conflict("CONSOLE_TAKEN_OVER", "somebody else took the keyboard over")
        case "CONSOLE_OFFSET_GONE":
            return OutOfRange(
                "CONSOLE_OFFSET_GONE", "the host does not keep these bytes; open without an offset"
            )
        case "CONSOLES_FULL":
            return host_full()
        case _:
            return unreachable()
