"""Tickets: good once, and only while the one who asked waits."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.api.flows.ports import Question
from services.api.flows.read_console import (
    AttachPart,
    ConsoleAsk,
    ConsoleEnd,
    ConsoleRoad,
    Tickets,
    attach,
    read_console,
)
from services.domain.errors import NotFound
from tests.unit.api.test_access import MINE, OpenConductor, row


class Heard:
    """Questions that left."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[Question] = asyncio.Queue()

    async def ask(self, question: Question) -> None:
        self.questions.put_nowait(question)


async def asked(tickets: Tickets) -> tuple["asyncio.Task[bytes]", str]:
    """Someone who waits for a console, and the ticket of the question."""
    own = row("mine", 1, epoch=7)
    heard = Heard()

    async def read() -> bytes:
        road, ask = ConsoleRoad(heard, tickets), ConsoleAsk(own.id, 100)
        console = await read_console(OpenConductor(own), road, MINE, ask, host_of=lambda _: "h")
        return console.content

    reading = asyncio.get_running_loop().create_task(read())
    return reading, (await heard.questions.get()).ticket


async def attached(tickets: Tickets, parts: AsyncIterator[AttachPart]) -> None:
    async for _ in attach(tickets, parts):
        pass


async def said(ticket: str, content: bytes) -> AsyncIterator[AttachPart]:
    yield ticket
    yield content
    yield ConsoleEnd(0)


async def test_the_second_who_shows_a_ticket_is_nobody_even_while_the_first_answers() -> None:
    tickets = Tickets()
    reading, ticket = await asked(tickets)
    going_on = asyncio.Event()

    async def slowly() -> AsyncIterator[AttachPart]:
        yield ticket
        await going_on.wait()
        yield b"first"
        yield ConsoleEnd(0)

    first = asyncio.ensure_future(attached(tickets, slowly()))
    await asyncio.sleep(0)
    with pytest.raises(NotFound) as refused:
        await attached(tickets, said(ticket, b"second"))
    assert refused.value.reason == "TICKET_UNKNOWN"
    going_on.set()
    await first
    assert await reading == b"first"


async def test_a_ticket_ends_when_the_one_who_asked_goes() -> None:
    tickets = Tickets()
    reading, ticket = await asked(tickets)
    reading.cancel()
    await asyncio.wait({reading})
    with pytest.raises(NotFound) as refused:
        await attached(tickets, said(ticket, b"late"))
    assert refused.value.reason == "TICKET_UNKNOWN"


async def test_tickets_cannot_be_guessed_from_each_other() -> None:
    tickets = Tickets()
    issued = [await asked(tickets) for _ in range(50)]
    found = {ticket for _, ticket in issued}
    assert len(found) == len(issued)
    assert min(map(len, found)) >= 43, "32 random bytes"
    for reading, _ in issued:
        reading.cancel()
