"""What a host hears over the bus: of too many questions the last are told so."""

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
        if len(self.receivers) == 2:
            self.listening.set()

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

    listener = Listener("h", lambda _: None, keeping(answered), keeping(refused))
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
