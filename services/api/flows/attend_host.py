"""Attends to one host for as long as its stream lasts: hello first, then what it saw, its beats,
and its view.

Keeps nothing of what it hears: every word goes to the conductor, batched there with other hosts' by
lanes. A saying is dealt with before the next is, so a host that says too much is held back by flow
control; only its inventories go beside the rest (`report_inventories`). That all went well may be
told a moment later, and many times in one message: a host waits for it only when 256 observations
are on the road, and sends again after a beat. Whatever else there is to tell is told at once, after
what was held back.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Protocol, TypeVar

from services.api.flows.host_words import (
    Acknowledged,
    BeatAnswered,
    BeatSaid,
    HelloSaid,
    InventorySaid,
    ObservationsSaid,
    Saying,
    SupersededTold,
    Telling,
    ViewTold,
    ViewWantedSaid,
)
from services.api.flows.ports import HostRecords, Observation
from services.api.flows.report_inventories import InventoryReports
from services.api.flows.take_changes import history_changed
from services.domain.errors import CloudError, Invalid, Unavailable
from services.domain.ids import is_host_id
from services.domain.observation import ObservationOutcome
from services.runtime.clock import Clock

SILENCE_S = 60.0
INSIST_S = 10.0
INSIST_PAUSE_S = 0.3
OBSERVATIONS_MAX = 256
HELD_S = 1.0
HELD_MAX = 64
_MAY_WAIT = frozenset({ObservationOutcome.APPLIED, ObservationOutcome.DUPLICATE})

Result = TypeVar("Result")


class History(Protocol):
    """The history of the database in which a host was greeted."""

    async def until_history_over(self) -> None:
        """Waits for its end."""


# What the reader of a stream leaves for the one who answers; None is the end of the stream.
_Answered = HelloSaid | ObservationsSaid | BeatSaid | ViewWantedSaid | SupersededTold
_Said = _Answered | InventorySaid
_Heard = asyncio.Queue[_Said | Exception | None]


async def attend_host(
    records: HostRecords, history: History, clock: Clock, sayings: AsyncIterator[Saying]
) -> AsyncGenerator[Telling, None]:
    """Answers until the host goes or is superseded. Raises Invalid, what the conductor refuses, and
    Unavailable, also where the database was set back: no number would tell the host so.
    """
    async with _listening(sayings, history) as heard:
        said = await _next(heard)
        if said is None:
            return
        if not isinstance(said, HelloSaid) or not is_host_id(said.hello.host_id):
            raise Invalid(
                "INVALID_FIELD", "a stream begins with the hello of a host", field="hello"
            )
        host_id = said.hello.host_id
        view = await records.host_greet(said.hello)
        yield ViewTold(view)
        agent = (host_id, view.incarnation)
        async with aclosing(_converse(records, clock, agent, heard)) as tellings:
            async for telling in tellings:
                yield telling
                if isinstance(telling, SupersededTold):
                    return


async def _converse(
    records: HostRecords, clock: Clock, agent: tuple[str, int], heard: _Heard
) -> AsyncGenerator[Telling, None]:
    held, reports = _Held(), InventoryReports(records, agent)
    async with _telling_the_end(reports, heard):
        while True:
            if held:
                try:
                    said = await _heard_within(heard, held.left_s())
                except TimeoutError:
                    yield held.take()
                    continue
            else:
                said = await _next(heard)
            if said is None:
                return
            if isinstance(said, InventorySaid):
                reports.put(said.inventory)
                continue
            for telling in held.tellings(await _answer(records, clock, agent, said)):
                yield telling


class _Held:
    """Acknowledgements that wait for more of them."""

    def __init__(self) -> None:
        self._outcomes: list[tuple[int, ObservationOutcome]] = []
        self._until_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._outcomes)

    def left_s(self) -> float:
        """How long they may still wait."""
        return max(0.0, self._until_s - asyncio.get_running_loop().time())

    def take(self) -> Acknowledged:
        """All of them in one."""
        taken = Acknowledged(self._outcomes)
        self._outcomes = []
        return taken

    def tellings(self, answers: list[Telling]) -> list[Telling]:
        """What to tell now; what may wait is held back, unless there is something to tell."""
        if not self._outcomes:
            self._until_s = asyncio.get_running_loop().time() + HELD_S
        others = list[Telling]()
        urgent = False
        for answer in answers:
            if isinstance(answer, Acknowledged):
                self._outcomes.extend(answer.outcomes)
                urgent = urgent or not all(became in _MAY_WAIT for _, became in answer.outcomes)
            else:
                others.append(answer)
        if not (others or urgent or len(self._outcomes) >= HELD_MAX or self.left_s() == 0.0):
            return []
        return [self.take(), *others] if self._outcomes else others


@asynccontextmanager
async def _listening(sayings: AsyncIterator[Saying], history: History) -> AsyncIterator[_Heard]:
    """What is heard, one saying at a time; a queue may be left and asked again, a stream not."""
    heard = _Heard(maxsize=1)
    reading = asyncio.create_task(_read(sayings, heard))
    waiting = asyncio.create_task(_end_with(history, heard))
    try:
        yield heard
    finally:
        reading.cancel()
        waiting.cancel()


@asynccontextmanager
async def _telling_the_end(reports: InventoryReports, heard: _Heard) -> AsyncIterator[None]:
    reporting = asyncio.create_task(_report(reports, heard))
    try:
        yield
    finally:
        reporting.cancel()


async def _report(reports: InventoryReports, heard: _Heard) -> None:
    try:
        await reports.until_superseded()
        await heard.put(SupersededTold())
    except Exception as error:  # noqa: BLE001  # whoever answers raises it
        await heard.put(error)


async def _end_with(history: History, heard: _Heard) -> None:
    await history.until_history_over()
    await heard.put(history_changed())


async def _read(sayings: AsyncIterator[Saying], heard: _Heard) -> None:
    try:
        async for said in sayings:
            await heard.put(said)
    except Exception as error:  # noqa: BLE001  # whoever answers raises it
        await heard.put(error)
    else:
        await heard.put(None)


async def _next(heard: _Heard) -> _Said | None:
    try:
        return await _heard_within(heard, SILENCE_S)
    except TimeoutError:
        raise Unavailable("HOST_SILENT", f"nothing was heard for {SILENCE_S:.0f} s") from None


async def _heard_within(heard: _Heard, timeout_s: float) -> _Said | None:
    async with asyncio.timeout(timeout_s):
        said = await heard.get()
    if isinstance(said, Exception):
        raise said
    return said


async def _answer(
    records: HostRecords, clock: Clock, agent: tuple[str, int], said: _Answered
) -> list[Telling]:
    match said:
        case HelloSaid():
            raise Invalid("INVALID_FIELD", "a stream has one hello", field="hello")
        case ObservationsSaid():
            return await _apply(records, clock, agent, said.observations)
        case SupersededTold():
            return [said]
        case BeatSaid():
            known = await _insist(clock, lambda: records.beat_renew(*agent, said.bus_silent))
            return [SupersededTold() if known.superseded else BeatAnswered(known.wanted_revision)]
        case ViewWantedSaid():
            try:
                return [ViewTold(await _insist(clock, lambda: records.view_read(*agent)))]
            except CloudError as refused:
                if refused.reason != "SUPERSEDED":
                    raise
                return [SupersededTold()]


async def _apply(
    records: HostRecords,
    clock: Clock,
    agent: tuple[str, int],
    observations: Sequence[Observation],
) -> list[Telling]:
    if len(observations) > OBSERVATIONS_MAX:
        raise Invalid(
            "INVALID_FIELD",
            f"at most {OBSERVATIONS_MAX} observations at once",
            field="observations",
        )
    outcomes = await _insist(clock, lambda: records.observations_apply(*agent, observations))
    told: list[Telling] = [
        Acknowledged(
            [(o.sequence, became) for o, became in zip(observations, outcomes, strict=True)]
        )
    ]
    if ObservationOutcome.SUPERSEDED in outcomes:
        told.append(SupersededTold())
    return told


async def _insist(clock: Clock, call: Callable[[], Awaitable[Result]]) -> Result:
    """Calls again while the conductor is away for a moment: what a host says may be said twice."""
    until_s = clock.now_s() + INSIST_S
    while True:
        try:
            return await call()
        except Unavailable:
            if clock.now_s() >= until_s:
                raise
            await clock.sleep(INSIST_PAUSE_S)
