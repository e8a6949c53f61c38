"""Goal: every request is answered once with the truth, or not at all.

Method: the flow with a clock of the test's own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from services.domain.resources import Resources
from services.domain.trace import Trace
from services.scheduler.flows.place import HOLD_S, Placement
from services.scheduler.logic.changes import Change, apply
from services.scheduler.logic.fleet import Fleet
from services.scheduler.logic.request import Outcome, Placed, Refused
from services.scheduler.logic.weighers import Weights
from tests.logged import logged
from tests.unit.scheduler import fleets

ONE = fleets.shape(Resources(1, 0, 0))
FULL = fleets.row(used=Resources(8, 0, 0))


class World:
    """The flow's ports: what was published, the feed, and time, which only the test moves."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.published: list[list[Outcome]] = []
        self.revisions: list[int] = []
        self.wanted: list[int] = []
        self.time_s = 0.0
        self.late: list[Change] = []
        self.placement = Placement(fleet, self, self, weights=Weights(), clock=self)

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for batch in self.published for outcome in batch]

    async def publish(self, outcomes: Sequence[Outcome], fleet_revision: int) -> None:
        self.published.append(list(outcomes))
        self.revisions.append(fleet_revision)

    async def wait_for(self, revision: int) -> None:
        self.wanted.append(revision)
        while self.fleet.revision < revision:
            if self.late:
                self.show(*self.late)
            await asyncio.sleep(0.001)

    def now_s(self) -> float:
        return self.time_s

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("the flow does not sleep")

    def show(self, *changes: Change) -> None:
        apply(self.fleet, changes)
        self.placement.fleet_advanced()

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(60_000):
            if holds():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it did not happen in a minute")


@contextlib.asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[World]:
    world = World(fleet)
    task = asyncio.create_task(world.placement.run())
    try:
        yield world
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_all_that_arrived_together_is_answered_in_one_round() -> None:
    async with running(fleets.fleet_of(fleets.row())) as world:
        requests = fleets.requests(5, ONE)
        world.placement.take(requests[:2])
        world.placement.take(requests[2:])
        await world.until(lambda: len(world.published) > 0)
        assert [outcome.request for outcome in world.published[0]] == requests
        assert world.revisions == [1]


async def test_a_place_is_said_at_once_even_from_an_older_fleet() -> None:
    async with running(fleets.fleet_of(fleets.row())) as world:
        world.placement.take(fleets.requests(1, ONE, min_revision=99))
        await world.until(lambda: len(world.outcomes) == 1)
        assert isinstance(world.outcomes[0], Placed)
        assert world.wanted == []


async def test_a_refusal_catches_up_first() -> None:
    async with running(fleets.fleet_of(FULL)) as world:
        world.late = [Change(2, host=fleets.row("host-b", revision=2))]
        world.placement.take(fleets.requests(1, ONE, min_revision=2))
        await world.until(lambda: len(world.outcomes) == 1)
        assert world.wanted == [2]
        (outcome,) = world.outcomes
        assert isinstance(outcome, Placed)
        assert outcome.host_id == "host-b"


async def test_a_refusal_from_a_new_enough_fleet_is_said_at_once() -> None:
    async with running(fleets.fleet_of(FULL)) as world:
        world.placement.take(fleets.requests(1, ONE, min_revision=1))
        await world.until(lambda: len(world.outcomes) == 1)
        assert isinstance(world.outcomes[0], Refused)


async def test_without_a_new_enough_fleet_nothing_is_said_and_others_go_on() -> None:
    async with running(fleets.fleet_of(FULL)) as world:
        world.placement.take(fleets.requests(1, ONE, min_revision=99, prefix="early"))
        world.placement.take(fleets.requests(1, ONE, prefix="other"))
        await world.until(lambda: len(world.outcomes) == 1)
        world.time_s = HOLD_S
        world.placement.take(fleets.requests(1, ONE, prefix="later"))
        await world.until(lambda: len(world.outcomes) == 2)
        world.show(Change(99))
        world.placement.take(fleets.requests(1, ONE, prefix="last"))
        await world.until(lambda: len(world.outcomes) == 3)
        said = {outcome.request.instance_id for outcome in world.outcomes}
        assert said == {"other-0", "later-0", "last-0"}


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "lapsed"])
async def test_room_that_is_only_promised_refuses_nobody_until_the_ledger_has_spoken(
    claimed: bool,
) -> None:
    target = Resources(1, 0, 0)
    async with running(fleets.fleet_of(fleets.row(target=target))) as world:
        world.placement.take(fleets.requests(2, ONE))
        await world.until(lambda: len(world.outcomes) == 1)
        await asyncio.sleep(0.3)
        assert len(world.outcomes) == 1
        if claimed:
            row = fleets.row(target=target, used=target, revision=2)
            world.show(Change(2, host=row), Change(3, settled_instance_id="instance-0"))
        else:
            world.time_s = HOLD_S
        await world.until(lambda: len(world.outcomes) == 2)
        assert isinstance(world.outcomes[1], Refused if claimed else Placed)
        assert world.outcomes[1].request.instance_id == "instance-1"


async def test_a_newer_attempt_takes_the_place_of_an_older_one_that_waits() -> None:
    async with running(fleets.fleet_of(FULL)) as world:
        world.placement.take(fleets.requests(1, ONE, attempt=1, min_revision=2))
        await world.until(lambda: world.wanted != [])
        world.placement.take(fleets.requests(1, ONE, attempt=2, min_revision=2))
        world.placement.take(fleets.requests(1, ONE, attempt=1, min_revision=2))
        world.show(Change(2))
        await world.until(lambda: len(world.outcomes) > 0)
        await asyncio.sleep(0.05)
        assert [outcome.request.attempt for outcome in world.outcomes] == [2]


async def test_a_host_that_was_disabled_is_chosen_by_nobody_and_says_so_by_its_own_filter() -> None:
    async with running(fleets.fleet_of(fleets.row())) as world:
        world.show(Change(2, host=fleets.row(enabled=False, revision=2)))
        world.placement.take(fleets.requests(1, ONE))
        await world.until(lambda: len(world.outcomes) == 1)
        refused = world.outcomes[0]
        assert isinstance(refused, Refused)
        assert {r.filter: r.hosts for r in refused.rejections if r.hosts} == {"enabled": 1}
        world.show(Change(3, host=fleets.row(revision=3)))
        world.placement.take(fleets.requests(1, ONE, attempt=2))
        await world.until(lambda: len(world.outcomes) == 2)
        assert isinstance(world.outcomes[1], Placed)


async def test_every_answer_is_logged_under_the_call_that_asked() -> None:
    traces = [Trace(f"call-{number}", "") for number in range(3)]
    room = fleets.row(target=Resources(2, 0, 0))
    with logged() as lines:
        async with running(fleets.fleet_of(room)) as world:
            for number, trace in enumerate(traces):
                world.placement.take(fleets.requests(1, ONE, prefix=f"i{number}", trace=trace))
            assert world.placement.waiting == 3
            await world.until(lambda: len(world.outcomes) == 2)
            world.time_s = 2 * HOLD_S
            used = fleets.row(target=Resources(2, 0, 0), used=Resources(2, 0, 0), revision=2)
            world.show(Change(2, host=used))
            await world.until(lambda: len(world.outcomes) == 3)
            assert world.placement.waiting == 0
        said = lines()
    placed = [entry for line in said for entry in line.get("instances", [])]
    assert [entry["correlation_id"] for entry in placed] == ["call-0", "call-1"]
    assert {entry["host_id"] for entry in placed} == {"host-a"}
    (none,) = [line for line in said if line["event"] == "no host fits"]
    assert (none["correlation_id"], none["instance_id"]) == ("call-2", "i2-0")
