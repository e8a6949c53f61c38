"""Reads a guest's console: asks its host over the bus, and the host dials in with the question's
ticket.

Owns tickets: random, used once, gone with the question after at most 25 s, known only to this
replica; and how many consoles one project may have here. Source: MECHANICS D6.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from services.api.flows.get_row import get_row
from services.api.flows.ports import Conductor, ConsoleLogAsk, Question, Questions
from services.api.logic.caller import Caller
from services.api.logic.row import Row
from services.domain.errors import (
    CloudError,
    Invalid,
    NoCapacity,
    NotFound,
    Unavailable,
    WrongState,
)
from services.domain.kinds import ResourceKind
from services.runtime.log import logger

ATTACH_S = 5.0
ANSWER_S = 20.0
TICKETS_MAX = 1000
LINES_MAX = 2000
# Fewer than a host serves: no project can take all of it.
CONSOLES_MAX = 64
FULL_S = 2.0
BYTES_DEFAULT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Console:
    """The end of what a guest wrote, and where that stands in all that its host kept, in bytes."""

    content: bytes
    start_offset: int


@dataclass(frozen=True, slots=True)
class ConsoleEnd:
    """The host's last word on a console log."""

    start_offset: int


@dataclass(frozen=True, slots=True)
class LineOpened:
    """The host has joined a console; bytes follow from there on."""

    offset: int


@dataclass(frozen=True, slots=True)
class HostFailure:
    """The host could not answer, or its answer ends here."""

    reason: str
    message: str


AttachPart = str | bytes | ConsoleEnd | LineOpened | HostFailure
"""The ticket, a piece of the answer, or how the answer begins or ends."""


class Waiting(Protocol):
    """A question on its way, bound to who asked and about which claim."""

    def carry(self, parts: AsyncIterator[AttachPart]) -> AsyncGenerator[bytes, None]:
        """Takes the host's answer; gives what is said to the host meanwhile."""
        ...


class Open(Protocol):
    """A console that is open."""

    def close(self, why: Exception | None = None) -> None:
        """Ends it."""
        ...


class Tickets:
    """Questions that wait for their host, and consoles that are open."""

    def __init__(self) -> None:
        self._pending: dict[str, Waiting] = {}
        self._lines: set[Open] = set()
        self._owners: Counter[str] = Counter()

    @contextlib.contextmanager
    def issued(self, waiting: Waiting, owner: str) -> Iterator[str]:
        """A ticket, good while its question waits. Who asked counts for its owner, a project, until
        it leaves. Raises NoCapacity (LANE_FULL; TOO_MANY_CONSOLES where it has CONSOLES_MAX).
        """
        if self._owners[owner] >= CONSOLES_MAX:
            raise NoCapacity(
                "TOO_MANY_CONSOLES",
                "this project has as many consoles here as one may have; close some",
                retry_after_s=FULL_S,
            )
        if len(self._pending) >= TICKETS_MAX:
            raise full("too many consoles are being read")
        ticket = secrets.token_urlsafe(32)
        self._pending[ticket] = waiting
        self._owners[owner] += 1
        try:
            yield ticket
        finally:
            self._pending.pop(ticket, None)
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    @contextlib.contextmanager
    def kept(self, line: Open) -> Iterator[None]:
        """Counts an open console. Raises NoCapacity (LANE_FULL)."""
        if len(self._lines) >= LINES_MAX:
            raise full("too many consoles are open")
        self._lines.add(line)
        try:
            yield
        finally:
            self._lines.discard(line)

    def close(self) -> None:
        """Ends every open console: another replica takes it up where it ended."""
        for line in self._lines:
            line.close(
                Unavailable(
                    "API_STOPPING", "this api is ending; open the console again where it ended"
                )
            )

    def redeem(self, ticket: str) -> Waiting | None:
        """The question of a ticket, once."""
        return self._pending.pop(ticket, None)


@dataclass(frozen=True, slots=True)
class ConsoleRoad:
    """Both directions of the road: questions go out over one, answers come back to the other."""

    questions: Questions
    tickets: Tickets


@dataclass(frozen=True, slots=True)
class ConsoleAsk:
    """Whose console, and how much of its end; 0 for the usual amount."""

    instance_id: str
    max_bytes: int


class LogReading:
    """Someone who waits for a console's log."""

    def __init__(self, bytes_max: int) -> None:
        self.attached = asyncio.Event()
        self.answer: asyncio.Future[Console] = asyncio.get_running_loop().create_future()
        self._bytes_max = bytes_max

    async def carry(self, parts: AsyncIterator[AttachPart]) -> AsyncGenerator[bytes, None]:
        """Collects the log. Raises Invalid where the host does not answer properly."""
        self.attached.set()
        try:
            async with asyncio.timeout(ANSWER_S):
                outcome = await self._collect(parts)
        except BaseException:
            self._settle(unreachable())
            raise
        self._settle(outcome)
        # The host waits for a word.
        yield b""

    async def _collect(self, parts: AsyncIterator[AttachPart]) -> Console | CloudError:
        content = bytearray()
        async for part in parts:
            match part:
                case bytes():
                    content += part
                    if len(content) > self._bytes_max:
                        raise Invalid(
                            "INVALID_FIELD", "more bytes came than were asked for", field="chunk"
                        )
                case ConsoleEnd():
                    return Console(bytes(content), part.start_offset)
                case HostFailure():
                    logger().info("console not read", reason=part.reason, said=part.message)
                    if part.reason == "CONSOLES_FULL":
                        return host_full()
                    return not_ready("its host has no console of this guest yet")
                case _:
                    raise Invalid("INVALID_FIELD", "this is no part of a log", field="part")
        raise Invalid("INVALID_FIELD", "the answer ended without its end", field="console_log_end")

    def _settle(self, outcome: Console | CloudError) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, CloudError):
            self.answer.set_exception(outcome)
            self.answer.exception()  # a caller that has gone must not make the loop complain
        else:
            self.answer.set_result(outcome)


async def read_console(
    conductor: Conductor,
    road: ConsoleRoad,
    caller: Caller,
    ask: ConsoleAsk,
    *,
    host_of: Callable[[Row], str],
) -> Console:
    """The newest bytes. Raises NotFound, WrongState (CONSOLE_NOT_READY), NoCapacity (LANE_FULL,
    TOO_MANY_CONSOLES), Unavailable (HOST_UNREACHABLE).
    """
    row, host_id = await guest_of(conductor, caller, ask.instance_id, host_of=host_of)
    limit = ask.max_bytes or BYTES_DEFAULT
    reading = LogReading(limit)
    with road.tickets.issued(reading, caller.project_id) as ticket:
        question = Question(ticket, host_id, row.id, row.epoch, ConsoleLogAsk(limit))
        await road.questions.ask(question)
        try:
            async with asyncio.timeout(ATTACH_S):
                await reading.attached.wait()
            async with asyncio.timeout(ANSWER_S):
                return await reading.answer
        except TimeoutError:
            raise unreachable() from None


async def guest_of(
    conductor: Conductor, caller: Caller, instance_id: str, *, host_of: Callable[[Row], str]
) -> tuple[Row, str]:
    """The instance and its host. Raises NotFound, WrongState (CONSOLE_NOT_READY)."""
    row = await get_row(conductor, caller, ResourceKind.INSTANCE, instance_id)
    host_id = host_of(row)
    if not host_id or not row.epoch:
        raise not_ready("no host has a guest of this instance yet")
    return row, host_id


async def attach(tickets: Tickets, parts: AsyncIterator[AttachPart]) -> AsyncGenerator[bytes, None]:
    """Joins a host that dials in to the question that waits for it; gives what is typed for it.
    Raises NotFound (TICKET_UNKNOWN), Invalid.
    """
    try:
        async with asyncio.timeout(ATTACH_S):
            ticket = await anext(parts, None)
    except TimeoutError:
        raise Invalid("INVALID_FIELD", "no ticket came", field="ticket") from None
    waiting = tickets.redeem(ticket) if isinstance(ticket, str) else None
    if waiting is None:
        raise NotFound("TICKET_UNKNOWN", "nobody waits for this answer")
    async with contextlib.aclosing(waiting.carry(parts)) as typed:
        async for content in typed:
            yield content


def not_ready(why: str) -> WrongState:
    """The answer where there is no console."""
    return WrongState("CONSOLE_NOT_READY", f"{why}; wait until the instance is ACTIVE")


def full(why: str) -> NoCapacity:
    """The answer where there is no room for one more."""
    return NoCapacity("LANE_FULL", f"{why}; try again later", retry_after_s=FULL_S)


def host_full() -> NoCapacity:
    """The answer of a host that serves as many as it can."""
    return full("the instance's host serves as many consoles as it can")


def unreachable() -> Unavailable:
    """The answer where a host gives none."""
    return Unavailable("HOST_UNREACHABLE", "the instance's host did not answer in time; try again")
