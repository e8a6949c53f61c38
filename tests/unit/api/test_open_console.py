"""A console ends with its user's token, whatever the guest writes and whether the user reads."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import pytest

from services.api.flows.open_console import Opening, Output, Said, Told, open_console
from services.api.flows.ports import ConsoleOpening
from services.api.flows.read_console import (
    CONSOLES_MAX,
    AttachPart,
    ConsoleAsk,
    ConsoleRoad,
    LineOpened,
    Tickets,
    attach,
    read_console,
)
from services.domain.errors import NoCapacity, Unauthenticated
from tests.unit.api.test_access import MINE, OpenConductor, row
from tests.unit.api.test_tickets import Heard

OWN = row("mine", 1, epoch=7)
TOKEN_S = 1.0


class Console:
    """A console of a guest that never stops, by a token that is good for `token_s`."""

    def __init__(self, token_s: float = TOKEN_S, tickets: Tickets | None = None) -> None:
        self.tickets = tickets or Tickets()
        self.heard = Heard()
        self.expires_at_s = time.time() + token_s
        self.typed: list[bytes] = []
        road = ConsoleRoad(self.heard, self.tickets)
        caller = replace(MINE, expires_at_s=self.expires_at_s)
        self.words: AsyncGenerator[Told, None] = open_console(
            OpenConductor(OWN), road, caller, self._said(), host_of=lambda _: "h"
        )

    async def _said(self) -> AsyncIterator[Said]:
        yield Opening(OWN.id, ConsoleOpening(0, write=True, take_over=False))
        while True:
            yield b"x"

    async def answer(self) -> None:
        """Does as the host does, until its line is ended."""
        ticket = (await self.heard.questions.get()).ticket

        async def parts() -> AsyncIterator[AttachPart]:
            yield ticket
            yield LineOpened(0)
            while True:
                yield b"y"

        async for content in attach(self.tickets, parts()):
            self.typed.append(content)
            await asyncio.sleep(0.001)

    async def expire(self) -> None:
        await asyncio.sleep(self.expires_at_s - time.time() + 0.01)

    async def read(self, most: int) -> None:
        """Reads so many words, each after a write to the user that took its time: the next has come
        meanwhile.
        """
        for _ in range(most):
            await asyncio.sleep(0.001)
            await anext(self.words)


async def test_a_console_ends_with_its_token_though_its_guest_never_stops() -> None:
    console = Console()
    host = asyncio.ensure_future(console.answer())
    assert await anext(console.words) == LineOpened(0)
    assert isinstance(await anext(console.words), Output)
    await console.expire()
    with pytest.raises(Unauthenticated) as ended:
        await console.read(100)
    assert ended.value.reason == "TOKEN_EXPIRED"
    await asyncio.wait_for(host, 60)


async def test_a_user_that_does_not_read_types_no_more_than_its_token_lets_it() -> None:
    console = Console()
    host = asyncio.ensure_future(console.answer())
    await anext(console.words)
    await anext(console.words)
    # Nobody asks for the next word, as while a write to the user hangs.
    await asyncio.wait_for(host, 60)
    assert console.typed
    await console.words.aclose()


async def test_a_token_that_ends_before_the_host_came_is_told_as_that() -> None:
    console = Console(token_s=0.1)
    with pytest.raises(Unauthenticated) as ended:
        await asyncio.wait_for(anext(console.words), 60)
    assert ended.value.reason == "TOKEN_EXPIRED"


async def test_a_project_has_so_many_consoles_and_questions_and_another_still_its_own() -> None:
    tickets = Tickets()
    many = [Console(60, tickets) for _ in range(CONSOLES_MAX)]
    hosts = [asyncio.ensure_future(console.answer()) for console in many]
    for console in many:
        await anext(console.words)
    road = ConsoleRoad(Heard(), tickets)

    async def read() -> None:
        ask, conductor = ConsoleAsk(OWN.id, 1), OpenConductor(OWN)
        await read_console(conductor, road, MINE, ask, host_of=lambda _: "h")

    for asking in (anext(Console(60, tickets).words), read()):
        with pytest.raises(NoCapacity) as refused:
            await asking
        assert refused.value.reason == "TOO_MANY_CONSOLES"
        assert refused.value.retry_after_s
    with tickets.issued(many[0], "another"):  # type: ignore[arg-type]  # nobody answers it
        pass
    await many.pop().words.aclose()
    after = Console(60, tickets)
    hosts.append(asyncio.ensure_future(after.answer()))
    assert await anext(after.words) == LineOpened(0)
    for console in (*many, after):
        await console.words.aclose()
    await asyncio.wait_for(asyncio.gather(*hosts), 60)
