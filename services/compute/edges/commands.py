"""The bus as a host hears it: its commands, its questions, its own words. A malformed message is
dropped; of too many questions the last are told so.

Owns the subscriptions of all agents of this process. Subscribes whenever the bus is there: agents
do not wait for it, since views and beats bring the same wishes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.compute.edges import messages
from services.compute.flows.console_ports import ConsoleAsk, Question
from services.compute.flows.ports import CommandBatch
from services.runtime import subjects
from services.runtime.bus import Bus
from services.runtime.log import logger

# Several in the two beats after which a host's bus counts as silent.
ECHO_S = 3.0
QUESTIONS_MAX = 16
# Each stays as long as its user does.
CONSOLES_MAX = 256
# Beyond this many who are told at once, the others are told nothing.
EXCESS_MAX = 64


@dataclass(frozen=True, slots=True)
class Listener:
    """What one host does with what it hears."""

    host_id: str
    on_echo: Callable[[], None]
    on_command: Callable[[CommandBatch], None]
    on_question: Callable[[Question], Awaitable[None]]
    on_excess: Callable[[Question], Awaitable[None]]


async def listen(
    connect: Callable[[], Awaitable[Bus]],
    cloud_id: str,
    listeners: list[Listener],
    *,
    echo_s: float = ECHO_S,
) -> None:
    """Hears for all listeners until cancelled. What it says to itself every `echo_s` is an echo
    for all of them: they share the connection.
    """
    bus = await connect()
    try:
        async with asyncio.TaskGroup() as group:
            for listener in listeners:
                await _subscribe(bus, cloud_id, listener=listener, group=group)
            logger().info("bus heard", hosts=len(listeners))
            await _speak_to_self(bus, cloud_id, listeners=listeners, every_s=echo_s)
    finally:
        await bus.close()


async def _speak_to_self(
    bus: Bus, cloud_id: str, *, listeners: list[Listener], every_s: float
) -> None:
    subject = subjects.host_echo(cloud_id, listeners[0].host_id)

    async def receive_echo(_payload: bytes) -> None:
        for listener in listeners:
            listener.on_echo()

    await bus.subscribe(subject, receive_echo)
    while True:
        await bus.publish(subject, b"")
        await asyncio.sleep(every_s)


async def _subscribe(
    bus: Bus, cloud_id: str, *, listener: Listener, group: asyncio.TaskGroup
) -> None:
    answering: set[asyncio.Task[None]] = set()
    joined: set[asyncio.Task[None]] = set()
    refused: set[asyncio.Task[None]] = set()

    async def answer(question: Question, how: Callable[[Question], Awaitable[None]]) -> None:
        try:
            await how(question)
        except Exception as error:  # noqa: BLE001  # must not end the others
            logger().warning("question failed", host=listener.host_id, error=repr(error))

    async def receive_command(payload: bytes) -> None:
        listener.on_command(messages.command_batch_from_wire(payload))

    async def receive_question(payload: bytes) -> None:
        question = messages.question_from_wire(payload)
        stays = isinstance(question.ask, ConsoleAsk)
        others, most = (joined, CONSOLES_MAX) if stays else (answering, QUESTIONS_MAX)
        how = listener.on_question
        if len(others) >= most:
            logger().warning("too many questions at once", host=listener.host_id)
            others, how = refused, listener.on_excess
            if len(refused) >= EXCESS_MAX:
                return
        task = group.create_task(answer(question, how))
        others.add(task)
        task.add_done_callback(others.discard)

    await bus.subscribe(subjects.host_command(cloud_id, listener.host_id), receive_command)
    await bus.subscribe(subjects.host_question(cloud_id, listener.host_id), receive_question)
