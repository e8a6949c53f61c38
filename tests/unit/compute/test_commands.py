"""What a host hears over the bus: of too many questions the last are told so; its own words."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from stead.internal.v1 import compute_pb2

from services.compute.edges.commands import (
    CONSOLES_MAX,
    EXCESS_MAX,
    QUESTIONS_MAX,
    Listener,
    listen,
)
from services.compute.flows.console_ports import Question
from services.runtime import subjects

CONSOLE = compute_pb2.Question(instance_id="i", epoch=1, console=compute_pb2.ConsoleAsk())
LOG = compute_pb2.Question(instance_id="i", epoch=1, console_log=compute_pb2.ConsoleLogAsk())


class HeardBus:
    """A bus on which questions are put by hand."""

    def __init__(self) -> None:
        self.receivers: dict[str, Callable[[bytes], Awaitable[None]]] = {}
        self.listening = asyncio.Event()

    async def subscribe(self, subject: str, receive: Callable[[bytes], Awaitable[None]]) -> None:
        self.receivers[subject] = receive
        if len(self.receivers) == 3:
            self.listening.set()

    async def publish(self, subject: str, payload: bytes) -> None:
        await self.receivers[subject](payload)

    async def close(self) -> None:
        self.receivers.clear()


@pytest.mark.parametrize(("question", "most"), [(CONSOLE, CONSOLES_MAX), (LOG, QUESTIONS_MAX)])
async def test_who_asks_too_much_is_told_and_not_left_waiting(
    question: compute_pb2.Question, most: int
) -> None:
    bus, answered, refused = HeardBus(), list[str](), list[str]()

    def keeping(said: list[str]) -> Callable[[Question], Awaitable[None]]:
        async def keep(question: Question) -> None:
            said.append(question.ticket)
            await asyncio.Event().wait()

        return keep

    async def connect() -> HeardBus:
        return bus

    listener = Listener("h", lambda: None, lambda _: None, keeping(answered), keeping(refused))
    listening = asyncio.ensure_future(listen(connect, "c", [listener]))  # type: ignore[arg-type]  # all it uses
    await asyncio.wait_for(bus.listening.wait(), 60)
    tickets = [f"t{number}" for number in range(most + EXCESS_MAX + 5)]
    for ticket in tickets:
        question.ticket = ticket
        await bus.receivers[subjects.host_question("c", "h")](question.SerializeToString())
    await asyncio.sleep(0)
    assert answered == tickets[:most]
    assert refused == tickets[most : most + EXCESS_MAX]
    listening.cancel()
    await asyncio.wait({listening})


async def test_all_hosts_of_a_connection_hear_what_it_says_to_itself() -> None:
    """An echo is the sign that commands would come, too. MECHANICS D5."""
    bus, echoes, enough = HeardBus(), list[str](), asyncio.Event()

    async def connect() -> HeardBus:
        return bus

    async def ignore(question: Question) -> None:
        """Nobody asks."""

    def host(name: str) -> Listener:
        def hear() -> None:
            echoes.append(name)
            if len(echoes) == 4:
                enough.set()

        return Listener(name, hear, lambda _: None, ignore, ignore)

    hearing = listen(connect, "c", [host("a"), host("b")], echo_s=0.01)  # type: ignore[arg-type]  # all it uses
    listening = asyncio.ensure_future(hearing)
    await asyncio.wait_for(enough.wait(), 60)
    assert echoes[:4] == ["a", "b", "a", "b"]
    listening.cancel()
    await asyncio.wait({listening})
