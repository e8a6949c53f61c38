"""Joins one guest's console to the replica that asked: the guest's bytes go out from an offset on,
what is typed goes in.

Owns who may type: one per guest at a time, whichever replica it came by. Bytes are read from the
log only as fast as they are taken, so a reader who does not read holds nothing up but itself. Does
not own the log: the driver does.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from services.compute.flows.console_ports import (
    Attachments,
    ConsoleAsk,
    ConsoleLine,
    ConsolePiece,
    Keyboard,
    Question,
)
from services.compute.flows.follow_console import Followed, Followers
from services.compute.flows.ports import Driver, StepFailed
from services.compute.flows.race import race
from services.compute.logic.guest import Claim, Guest, Identity
from services.compute.logic.observation import Failure
from services.domain.errors import CloudError
from services.runtime.log import logger

OPEN_S_MAX = 10.0
PIECE_BYTES = 64 * 1024


class Consoles:
    """The open consoles of one host. `look` gives the guest of a claim as it is now."""

    def __init__(self, driver: Driver, look: Callable[[Claim], Awaitable[Guest | None]]) -> None:
        self.driver = driver
        self.followers = Followers(driver)
        self._look = look
        self._typing: dict[Claim, asyncio.Event] = {}

    async def find(self, claim: Claim) -> Identity:
        """The guest of a claim. Raises StepFailed (CONSOLE_NOT_READY) where there is none yet."""
        guest = await self._look(claim)
        if guest is None or not guest.prepared:
            raise StepFailed("CONSOLE_NOT_READY", "there is no guest yet whose console it is")
        return guest.identity

    @contextlib.contextmanager
    def typing(self, claim: Claim, *, take_over: bool) -> Iterator[asyncio.Event]:
        """Has the guest's keyboard; the event is set when another took it over. Raises StepFailed
        (CONSOLE_IN_USE).
        """
        there = self._typing.get(claim)
        if there is not None:
            if not take_over:
                raise StepFailed("CONSOLE_IN_USE", "somebody else types into this console")
            there.set()
        taken = self._typing[claim] = asyncio.Event()
        try:
            yield taken
        finally:
            if self._typing.get(claim) is taken:
                del self._typing[claim]


async def attach_console(
    question: Question, ask: ConsoleAsk, *, consoles: Consoles, attachments: Attachments
) -> None:
    """Holds the line until the user, the guest or the replica goes, or another one types."""
    try:
        async with attachments.join(question) as line:
            try:
                await _hold(question.claim, ask, line=line, consoles=consoles)
            except StepFailed as ended:
                await line.fail(Failure(ended.reason, ended.message))
    except (CloudError, TimeoutError) as error:
        logger().info("console line lost", instance=question.claim.instance_id, error=repr(error))


async def _hold(claim: Claim, ask: ConsoleAsk, *, line: ConsoleLine, consoles: Consoles) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(OPEN_S_MAX):
            identity = await consoles.find(claim)
            found = await consoles.driver.read_console_from(identity, ask.offset, 0)
            taken, keyboard = asyncio.Event(), None
            if ask.write:
                opened = consoles.driver.open_keyboard(identity)
                keyboard = await stack.enter_async_context(opened)
                # After all of the guest that can fail: such an opening must put off nobody.
                taken = stack.enter_context(consoles.typing(claim, take_over=ask.take_over))
            followed = stack.enter_context(consoles.followers.follow(identity))
            offset = found.end_offset if ask.offset is None else ask.offset
            await line.open(offset)
        read = partial(consoles.driver.read_console_from, identity)
        await race(
            _send(line, read, followed, offset=offset), _type(line, keyboard, taken), _lose(taken)
        )


async def _send(
    line: ConsoleLine,
    read: Callable[[int, int], Awaitable[ConsolePiece]],
    followed: Followed,
    *,
    offset: int,
) -> None:
    while True:
        piece = await read(offset, PIECE_BYTES)
        if piece.content:
            await line.send(piece.content)
            offset += len(piece.content)
        else:
            await followed.grown_beyond(offset)


async def _type(line: ConsoleLine, keyboard: Keyboard | None, taken: asyncio.Event) -> None:
    while (typed := await line.receive()) is not None:
        if keyboard is None:
            raise StepFailed("CONSOLE_READ_ONLY", "this console was not opened for writing")
        if taken.is_set():
            await _lose(taken)
        await keyboard.write(typed)


async def _lose(taken: asyncio.Event) -> None:
    await taken.wait()
    raise StepFailed("CONSOLE_TAKEN_OVER", "somebody else took the keyboard over")
