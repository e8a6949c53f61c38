"""Attends to one host for as long as its stream lasts: hello first, then what it saw, its beats,
and its view.

Keeps nothing of what it hears: every word goes to the conductor, batched there with other hosts' by
lanes. A saying is answered before the next is read, so a host that says too much is held back by
flow control.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.api.flows.ports import Hello, HostRecords, Observation, View
from services.domain.errors import CloudError, Invalid, Unavailable
from services.domain.ids import is_host_id
from services.domain.observation import ObservationOutcome
from services.runtime.clock import Clock

SILENCE_S = 60.0
INSIST_S = 10.0
INSIST_PAUSE_S = 0.3
OBSERVATIONS_MAX = 256

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class HelloSaid:
    """The agent has begun."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class ObservationsSaid:
    """Something was seen of guests."""

    observations: Sequence[Observation]


@dataclass(frozen=True, slots=True)
class BeatSaid:
    """The agent is alive."""


@dataclass(frozen=True, slots=True)
class ViewWantedSaid:
    """The agent knows that it is behind."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of each observation, by its number."""

    outcomes: Sequence[tuple[int, ObservationOutcome]]


@dataclass(frozen=True, slots=True)
class BeatAnswered:
    """The newest revision at which something was wanted of the host."""

    wanted_revision: int


@dataclass(frozen=True, slots=True)
class SupersededTold:
    """Another agent of this host is live."""


@dataclass(frozen=True, slots=True)
class ViewTold:
    """All that is wanted of the host."""

    view: View


Saying = HelloSaid | ObservationsSaid | BeatSaid | ViewWantedSaid
Telling = ViewTold | Acknowledged | BeatAnswered | SupersededTold


async def attend_host(
    records: HostRecords, clock: Clock, sayings: AsyncIterator[Saying]
) -> AsyncIterator[Telling]:
    """Answers until the host goes or is superseded. Raises Invalid, what the conductor refuses,
    Unavailable.
    """
    said = await _next(sayings)
    if said is None:
        return
    if not isinstance(said, HelloSaid) or not is_host_id(said.hello.host_id):
        raise Invalid("INVALID_FIELD", "a stream begins with the hello of a host", field="hello")
    host_id = said.hello.host_id
    view = await records.host_greet(said.hello)
    yield ViewTold(view)
    while (said := await _next(sayings)) is not None:
        for telling in await _answer(records, clock, (host_id, view.incarnation), said):
            yield telling
            if isinstance(telling, SupersededTold):
                return


async def _next(sayings: AsyncIterator[Saying]) -> Saying | None:
    try:
        async with asyncio.timeout(SILENCE_S):
            return await anext(sayings, None)
    except TimeoutError:
        raise Unavailable("HOST_SILENT", f"nothing was heard for {SILENCE_S:.0f} s") from None


async def _answer(
    records: HostRecords, clock: Clock, agent: tuple[str, int], said: Saying
) -> list[Telling]:
    match said:
        case HelloSaid():
            raise Invalid("INVALID_FIELD", "a stream has one hello", field="hello")
        case ObservationsSaid():
            return await _apply(records, clock, agent, said.observations)
        case BeatSaid():
            known = await _insist(clock, lambda: records.beat_renew(*agent))
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
    outcomes = await _insist(
        clock,
        lambda: asyncio.gather(*(records.observation_apply(*agent, seen) for seen in observations)),
    )
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
