"""Reads a guest's console: asks its host over the bus, and the host dials in with the question's
ticket.

Owns tickets: random, used once, gone with the question after at most 25 s, known only to this
replica. Source: MECHANICS D6.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from services.api.flows.get_row import get_row
from services.api.flows.ports import Conductor, Question, Questions
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
class HostFailure:
    """The host could not answer."""

    reason: str
    message: str


AttachPart = str | bytes | ConsoleEnd | HostFailure
"""The ticket, a piece of the answer, or how the answer ends."""


@dataclass(slots=True)
class Pending:
    """A question on its way, bound to who asked and about which claim."""

    subject: str
    instance_id: str
    epoch: int
    bytes_max: int
    attached: asyncio.Event = field(default_factory=asyncio.Event)
    answer: "asyncio.Future[Console]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Tickets:
    """Questions that wait for their host."""

    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}

    @contextlib.contextmanager
    def issued(self, pending: Pending) -> Iterator[str]:
        """A ticket, good while its question waits. Raises NoCapacity (LANE_FULL)."""
        if len(self._pending) >= TICKETS_MAX:
            raise NoCapacity("LANE_FULL", "too many consoles are being read; try again later")
        ticket = secrets.token_urlsafe(32)
        self._pending[ticket] = pending
        try:
            yield ticket
        finally:
            self._pending.pop(ticket, None)

    def redeem(self, ticket: str) -> Pending | None:
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


async def read_console(
    conductor: Conductor,
    road: ConsoleRoad,
    caller: Caller,
    ask: ConsoleAsk,
    *,
    host_of: Callable[[Row], str],
) -> Console:
    """The newest bytes. Raises NotFound, WrongState (CONSOLE_NOT_READY), Unavailable
    (HOST_UNREACHABLE).
    """
    row = await get_row(conductor, caller, ResourceKind.INSTANCE, ask.instance_id)
    host_id = host_of(row)
    if not host_id or not row.epoch:
        raise _not_ready("no host has a guest of this instance yet")
    limit = ask.max_bytes or BYTES_DEFAULT
    pending = Pending(caller.subject, row.id, row.epoch, limit)
    with road.tickets.issued(pending) as ticket:
        await road.questions.ask(Question(ticket, host_id, row.id, row.epoch, limit))
        try:
            async with asyncio.timeout(ATTACH_S):
                await pending.attached.wait()
            async with asyncio.timeout(ANSWER_S):
                return await pending.answer
        except TimeoutError:
            raise _unreachable() from None


async def attach(tickets: Tickets, parts: AsyncIterator[AttachPart]) -> None:
    """Joins a host that dials in to the question that waits for it. Raises NotFound
    (TICKET_UNKNOWN), Invalid.
    """
    try:
        async with asyncio.timeout(ATTACH_S):
            ticket = await anext(parts, None)
    except TimeoutError:
        raise Invalid("INVALID_FIELD", "no ticket came", field="ticket") from None
    pending = tickets.redeem(ticket) if isinstance(ticket, str) else None
    if pending is None:
        raise NotFound("TICKET_UNKNOWN", "nobody waits for this answer")
    pending.attached.set()
    try:
        async with asyncio.timeout(ANSWER_S):
            outcome = await _collect(parts, pending.bytes_max)
    except BaseException:
        _settle(pending, _unreachable())
        raise
    _settle(pending, outcome)


async def _collect(parts: AsyncIterator[AttachPart], bytes_max: int) -> Console | CloudError:
    content = bytearray()
    async for part in parts:
        match part:
            case bytes():
                content += part
                if len(content) > bytes_max:
                    raise Invalid(
                        "INVALID_FIELD", "more bytes came than were asked for", field="chunk"
                    )
            case ConsoleEnd():
                return Console(bytes(content), part.start_offset)
            case HostFailure():
                logger().info("console not read", reason=part.reason, said=part.message)
                return _not_ready("its host has no console of this guest yet")
            case _:
                raise Invalid("INVALID_FIELD", "the ticket comes once", field="ticket")
    raise Invalid("INVALID_FIELD", "the answer ended without its end", field="console_log_end")


def _settle(pending: Pending, outcome: Console | CloudError) -> None:
    if pending.answer.done():
        return
    if isinstance(outcome, CloudError):
        pending.answer.set_exception(outcome)
        pending.answer.exception()  # a caller that has gone must not make the loop complain
    else:
        pending.answer.set_result(outcome)


def _not_ready(why: str) -> WrongState:
    return WrongState("CONSOLE_NOT_READY", f"{why}; wait until the instance is ACTIVE")


def _unreachable() -> Unavailable:
    return Unavailable("HOST_UNREACHABLE", "the instance's host did not answer in time; try again")
