"""A host's stream: what it said is committed before it is answered, and how soon it is answered.

Time is the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.flows.attend_host import HELD_MAX, HELD_S, SILENCE_S, attend_host
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
from services.api.flows.ports import BeatKnown, Hello, Inventory, Observation
from services.domain.errors import Invalid, Unavailable
from services.domain.observation import ObservationOutcome
from services.runtime.clock import RealClock
from tests.examples import examples
from tests.fakes.history import OneHistory
from tests.warp import run_warped

APPLIED, DUPLICATE = ObservationOutcome.APPLIED, ObservationOutcome.DUPLICATE
GONE, SUPERSEDED = ObservationOutcome.NO_SUCH_CLAIM, ObservationOutcome.SUPERSEDED


@dataclass(frozen=True)
class Greeting:
    """A hello."""

    host_id: str = "h-1"


@dataclass(frozen=True)
class Seen:
    """An observation and what becomes of it."""

    sequence: int
    outcome: ObservationOutcome = APPLIED


@dataclass(frozen=True)
class Wanted:
    """A view."""

    incarnation: int = 1


@dataclass(frozen=True)
class Listed:
    """An inventory, how long the conductor takes over it, and what it says then."""

    number: int
    takes_s: float = 0.001
    live: bool = True
    lost: bool = False


@dataclass
class Records:
    """A conductor that commits in a moment; `committed` is what it has committed."""

    committed: set[int] = field(default_factory=set)
    reports: list[Listed] = field(default_factory=list)
    beats: int = 0

    async def inventory_report(self, host_id: str, incarnation: int, inventory: Inventory) -> bool:
        assert isinstance(inventory, Listed)
        self.reports.append(inventory)
        await asyncio.sleep(inventory.takes_s)
        if inventory.lost:
            raise Unavailable("PEER_UNREACHABLE", "the conductor did not answer in time")
        return inventory.live

    async def host_greet(self, hello: Hello) -> Wanted:
        return Wanted()

    async def view_read(self, host_id: str, incarnation: int) -> Wanted:
        return Wanted()

    async def digests_read(self, host_id: str, incarnation: int) -> frozenset[str]:
        return frozenset()

    async def observations_apply(
        self, host_id: str, incarnation: int, observations: Sequence[Observation]
    ) -> list[ObservationOutcome]:
        await asyncio.sleep(0.001)
        self.committed |= {seen.sequence for seen in observations}
        assert all(isinstance(seen, Seen) for seen in observations)
        return [seen.outcome for seen in observations if isinstance(seen, Seen)]

    async def beat_renew(self, host_id: str, incarnation: int, bus_silent: bool) -> BeatKnown:
        self.beats += 1
        return BeatKnown(superseded=False, wanted_revision=7)


Script = Sequence[tuple[float, Saying]]
Answers = list[tuple[float, Telling]]


async def said_at(script: Script) -> AsyncIterator[Saying]:
    """Each after a pause; the stream then stays open."""
    yield HelloSaid(Greeting())
    for pause_s, saying in script:
        await asyncio.sleep(pause_s)
        yield saying
    await asyncio.sleep(10 * SILENCE_S)


async def attended(script: Script, records: Records | None = None) -> Answers:
    """What the host is told, and when; until it is silent for too long or superseded."""
    records = records or Records()
    loop = asyncio.get_running_loop()
    began_s, answers = loop.time(), Answers()
    with contextlib.suppress(Unavailable):
        async for telling in attend_host(records, OneHistory(), RealClock(), said_at(script)):
            if isinstance(telling, Acknowledged):
                assert {number for number, _ in telling.outcomes} <= records.committed
            answers.append((loop.time() - began_s, telling))
    return answers[1:]


def seen(*numbers: int, outcome: ObservationOutcome = APPLIED) -> ObservationsSaid:
    """What was seen, under these numbers."""
    return ObservationsSaid([Seen(number, outcome) for number in numbers])


def numbers(telling: Telling) -> list[int]:
    """Which are acknowledged."""
    assert isinstance(telling, Acknowledged)
    return [number for number, _ in telling.outcomes]


def test_what_went_well_is_told_a_moment_later_in_one_message() -> None:
    script = [(0.1, seen(1)), (0.3, seen(2, outcome=DUPLICATE)), (0.3, seen(3, 4))]
    ((at_s, told),) = run_warped(attended(script))
    assert numbers(told) == [1, 2, 3, 4]
    assert at_s == pytest.approx(0.1 + HELD_S, abs=0.05)


def test_a_host_that_says_much_is_answered_before_it_has_to_wait() -> None:
    script = [(0.001, seen(number)) for number in range(1, 4 * HELD_MAX + 1)]
    answers = run_warped(attended(script))
    assert [len(numbers(told)) for _, told in answers] == [HELD_MAX] * 4


def test_a_batch_larger_than_what_may_wait_is_answered_at_once() -> None:
    ((at_s, told),) = run_warped(attended([(0.0, seen(*range(1, 257)))]))
    assert len(numbers(told)) == 256
    assert at_s < HELD_S / 2


@pytest.mark.parametrize(
    ("saying", "last"),
    [
        (seen(9, outcome=GONE), Acknowledged),
        (seen(9, outcome=SUPERSEDED), SupersededTold),
        (BeatSaid(), BeatAnswered),
        (ViewWantedSaid(), ViewTold),
    ],
    ids=["no such claim", "superseded", "beat", "view"],
)
def test_all_else_is_told_at_once_after_what_was_held_back(
    saying: Saying, last: type[Telling]
) -> None:
    answers = run_warped(attended([(0.1, seen(1, 2)), (0.1, saying)]))
    assert all(at_s < 0.1 + HELD_S / 2 for at_s, _ in answers)
    assert numbers(answers[0][1])[:2] == [1, 2]
    assert type(answers[-1][1]) is last


def test_an_inventory_that_hangs_holds_up_no_beat() -> None:
    """One is under way at a time; of those that come meanwhile the newest is reported."""
    records = Records()
    listed = [Listed(1, takes_s=50.0), Listed(2), Listed(3), Listed(4)]
    script: list[tuple[float, Saying]] = [(0.1, InventorySaid(listed[0]))]
    script += [(15.0, BeatSaid()), (0.1, InventorySaid(listed[1])), (0.1, seen(7, outcome=GONE))]
    script += [(0.1, InventorySaid(one)) for one in listed[2:]]
    script += [(15.0, BeatSaid()), (15.0, BeatSaid())]
    answers = run_warped(attended(script, records))
    beats_s = [at_s for at_s, told in answers if isinstance(told, BeatAnswered)]
    assert beats_s == pytest.approx([15.1, 30.5, 45.5], abs=0.2)
    assert [numbers(told) for _, told in answers if isinstance(told, Acknowledged)] == [[7]]
    assert records.beats == 3
    assert [one.number for one in records.reports] == [1, 4]


def test_a_lost_inventory_is_made_up_for_by_the_next() -> None:
    records = Records()
    script = [(1.0, InventorySaid(Listed(n, lost=n < 3))) for n in range(1, 5)]
    run_warped(attended(script, records))
    assert [one.number for one in records.reports] == [1, 2, 3, 4]


def test_who_is_superseded_hears_so_from_an_inventory_too() -> None:
    script: list[tuple[float, Saying]] = [(0.1, InventorySaid(Listed(1, takes_s=3.0, live=False)))]
    ((at_s, told),) = run_warped(attended([*script, (40.0, BeatSaid())]))
    assert isinstance(told, SupersededTold)
    assert at_s == pytest.approx(3.1, abs=0.1)


def test_nothing_heard_for_a_minute_ends_the_stream_but_not_what_is_held_back() -> None:
    async def until_silent() -> tuple[Answers, float]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        return await attended([(0.0, seen(1))]), loop.time() - began_s

    answers, took_s = run_warped(until_silent())
    assert [numbers(told) for _, told in answers] == [[1]]
    assert took_s == pytest.approx(SILENCE_S + HELD_S, abs=0.5)


def test_what_cannot_be_read_ends_the_stream() -> None:
    async def nonsense() -> AsyncIterator[Saying]:
        yield HelloSaid(Greeting())
        raise Invalid("INVALID_FIELD", "a host said nothing known", field="saying")

    async def read() -> None:
        async for _ in attend_host(Records(), OneHistory(), RealClock(), nonsense()):
            pass

    with pytest.raises(Invalid):
        run_warped(read())


def test_a_host_is_let_go_when_the_database_is_set_back() -> None:
    """What it was told counts no more, and no number that it hears of would tell it so."""
    history, told = OneHistory(), list[Telling]()

    async def attend() -> None:
        sayings = said_at([(5.0, BeatSaid())])
        async for telling in attend_host(Records(), history, RealClock(), sayings):
            told.append(telling)
            if isinstance(telling, BeatAnswered):
                history.over.set()

    with pytest.raises(Unavailable) as ended:
        run_warped(attend())
    assert ended.value.reason == "HISTORY_CHANGED"
    assert isinstance(told[-1], BeatAnswered)


SAYINGS: list[Callable[[int], Saying]] = [
    seen,
    seen,
    seen,
    lambda number: seen(number, outcome=GONE),
    lambda _: BeatSaid(),
]


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.01, 0.4, 3.0]), st.sampled_from(SAYINGS)),
        max_size=200,
    )
)
def test_each_is_acknowledged_once_in_order_and_in_time(
    steps: list[tuple[float, Callable[[int], Saying]]],
) -> None:
    script = [(pause_s, make(number)) for number, (pause_s, make) in enumerate(steps, 1)]
    answers = run_warped(attended(script))
    expected, when_s, now_s = [], {}, 0.0
    for pause_s, saying in script:
        now_s += pause_s
        if isinstance(saying, ObservationsSaid):
            (observation,) = saying.observations
            expected.append(observation.sequence)
            when_s[observation.sequence] = now_s
    told = [
        (number, at_s)
        for at_s, telling in answers
        if isinstance(telling, Acknowledged)
        for number in numbers(telling)
    ]
    assert [number for number, _ in told] == expected
    assert all(at_s - when_s[number] < HELD_S + 0.5 for number, at_s in told)
