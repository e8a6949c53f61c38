"""What a loss costs at most (MECHANICS B5): chosen messages are lost and chosen processes die in a
calm simulated cloud of a few seeds, and its virtual time tells how long that held up the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from google.protobuf import duration_pb2
from stead.internal.v1 import resource_pb2
from stead.v1 import instance_pb2

from services.api.flows.ports import Accepted
from services.api.flows.watch_rows import Changed, WatchAsk, watch_rows
from services.compute.flows.agent import BEAT_S
from services.domain.instance import State
from services.domain.kinds import ResourceKind
from services.runtime import subjects
from tests.simulation.clients import caller_of
from tests.simulation.loop import BEING
from tests.simulation.parts import CLOUD_ID, PAGE_KEY
from tests.simulation.run import undisturbed
from tests.simulation.world import Shape, World

SEEDS = pytest.mark.parametrize("seed", range(6))
WARM_S = 20.0
# What calls, messages and statements need beside the loss; steps of a host are up to 0.05 s each.
ROADS_S = 0.1
PLACE_S, COMMAND_S, YOUNG_S, CHANGE_S = 1.0, 2.0, 60.0, 1.5
CALLER = caller_of("p")
PLACE = subjects.place(CLOUD_ID)
DECIDED = subjects.decided(CLOUD_ID)
COMMAND = subjects.host_command(CLOUD_ID, "host-0")
FEED = subjects.feed(CLOUD_ID)


class Losses:
    """Loses messages of one subject, and knows when each was sent."""

    def __init__(self, world: World, subject: str, *, first: int) -> None:
        self.sent_s: list[float] = []
        self.on_loss: Callable[[], None] = lambda: None
        self._world, self._subject, self._left = world, subject, first
        world.broker.loses = self._loses

    def _loses(self, subject: str, payload: bytes) -> bool:
        if subject != self._subject:
            return False
        self.sent_s.append(self._world.loop.time())
        if self._left == 0:
            return False
        self._left -= 1
        self.on_loss()
        return True

    def pauses_s(self) -> list[float]:
        """Between one and the next."""
        return [after - before for before, after in zip(self.sent_s, self.sent_s[1:], strict=False)]


def in_a_cloud(seed: int, do: Callable[[World], Awaitable[None]], *, conductors: int = 1) -> None:
    """Runs it in a cloud that has been up for a while and has one host."""
    with undisturbed():
        _live(World(f"bounds/{seed}", Shape(conductors, schedulers=1, apis=1, hosts=1)), do)


def _live(world: World, do: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        await world.open()
        await asyncio.sleep(WARM_S)
        await do(world)

    try:
        world.loop.run_until_complete(run())
    finally:
        world.loop.close()
    assert not world.loop.errors


async def asked(world: World, wish: object) -> Accepted:
    """What the api answers to a wish."""
    accepted: Accepted = await world.ask(
        world.apis[0], lambda door: door.conductor.wish_accept(CALLER, wish)
    )
    return accepted


async def created(world: World, name: str = "one") -> str:
    """An instance that is wanted; its id."""
    wish = instance_pb2.CreateInstanceRequest(
        request_id=world.ids.new_id(), name=name, flavor_id=world.flavor_id,
        image_id=world.image_id,
    )  # fmt: skip
    return (await asked(world, wish)).resource.id


async def until(world: World, holds: Callable[[], bool]) -> float:
    """When it holds."""
    async with asyncio.timeout(600):
        while not holds():  # noqa: ASYNC110  # rows and machines tell nobody
            await asyncio.sleep(0.005)
    return world.loop.time()


async def until_state(world: World, instance_id: str, state: State) -> float:
    """When it is committed."""
    rows = world.store.rows.instances
    return await until(world, lambda: rows[instance_id].standing.state is state)


@SEEDS
@pytest.mark.parametrize("subject", [PLACE, DECIDED], ids=["request", "decision"])
def test_a_lost_request_for_a_host_and_a_lost_decision_cost_a_second(
    seed: int, subject: str
) -> None:
    async def lose(world: World) -> None:
        losses = Losses(world, subject, first=3)
        await until_state(world, await created(world), State.ACTIVE)
        assert len(losses.sent_s) == 4
        assert max(losses.pauses_s()) <= PLACE_S + ROADS_S

    in_a_cloud(seed, lose)


@SEEDS
def test_a_request_for_a_host_after_a_failed_build_costs_a_second_too(seed: int) -> None:
    """It is asked for again in the middle of its operation."""

    async def lose(world: World) -> None:
        instance_id = await created(world, "fail-one")
        losses = Losses(world, PLACE, first=1)
        await until_state(world, instance_id, State.ERROR)
        assert losses.pauses_s()[0] <= PLACE_S + ROADS_S

    in_a_cloud(seed, lose)


@SEEDS
def test_a_lost_command_of_a_young_operation_costs_two_seconds(seed: int) -> None:
    """Of a build and of a wish without one. A beat may be faster, and then the host is told no
    more: then nothing was lost.
    """

    async def lose(world: World) -> None:
        losses = Losses(world, COMMAND, first=2)
        instance_id = await created(world)
        done_s = await until_state(world, instance_id, State.ACTIVE)
        assert losses.sent_s
        assert max([*losses.pauses_s(), 0.0]) <= COMMAND_S + ROADS_S
        assert done_s - losses.sent_s[0] <= 2 * COMMAND_S + 10 * ROADS_S
        losses = Losses(world, COMMAND, first=1)
        none = duration_pb2.Duration()
        await asked(
            world,
            instance_pb2.StopInstanceRequest(
                request_id=world.ids.new_id(), id=instance_id, timeout=none
            ),
        )
        done_s = await until_state(world, instance_id, State.STOPPED)
        assert done_s - losses.sent_s[0] <= COMMAND_S + 5 * ROADS_S

    in_a_cloud(seed, lose)


@SEEDS
def test_a_command_that_never_comes_costs_a_beat_at_any_age(seed: int) -> None:
    """With the bus gone for good the host asks for its view once a beat is answered."""

    async def lose(world: World) -> None:
        placing, commands = Losses(world, PLACE, first=0), Losses(world, COMMAND, first=1 << 30)
        world.kill(world.slots["scheduler-0"])
        instance_id = await created(world)
        await asyncio.sleep(2 * YOUNG_S)
        assert not placing.sent_s
        world.start(world.slots["scheduler-0"])
        await until(world, lambda: bool(commands.sent_s))
        events = world.machines["host-0"].events
        begun_s = await until(world, lambda: bool(events))
        assert begun_s - commands.sent_s[0] <= BEAT_S + 5 * ROADS_S
        await until_state(world, instance_id, State.ACTIVE)

    in_a_cloud(seed, lose)


@SEEDS
def test_a_lost_change_costs_a_second_and_a_half(seed: int) -> None:
    """No change comes by the bus at all: the head that is told every second shows each."""

    async def lose(world: World) -> None:
        sent_s: dict[int, float] = {}
        came_s: dict[int, float] = {}

        def loses(subject: str, payload: bytes) -> bool:
            if subject != FEED:
                return False
            changes = resource_pb2.FeedBatch.FromString(payload).changes
            sent_s.update({change.revision: world.loop.time() for change in changes})
            return bool(changes)

        async def watch() -> None:
            ask = WatchAsk(ResourceKind.INSTANCE, bookmark_s=5.0)
            runs = world.stream(
                world.apis[0],
                lambda door: watch_rows(door.conductor, door.feed, CALLER, ask, page_key=PAGE_KEY),
                30.0,
            )
            async for run in runs:
                changed = (event.revision for event in run if isinstance(event, Changed))
                came_s.update(dict.fromkeys(changed, world.loop.time()))

        watching = world.users.spawn(watch())
        await asyncio.sleep(1)
        world.broker.loses = loses
        instance_id = await created(world)
        await until_state(world, instance_id, State.ACTIVE)
        await asyncio.sleep(5)
        watching.cancel()
        assert len(came_s) >= 3
        assert max(came_s[r] - sent_s[r] for r in came_s) <= CHANGE_S

    in_a_cloud(seed, lose)


@SEEDS
@pytest.mark.parametrize(
    ("subject", "bound_s"), [(PLACE, PLACE_S), (COMMAND, COMMAND_S)], ids=["placing", "building"]
)
def test_a_dead_conductor_costs_one_look(seed: int, subject: str, bound_s: float) -> None:
    """The other one takes over what it was about to say."""

    async def lose(world: World) -> None:
        losses = Losses(world, subject, first=1)

        def kill() -> None:
            world.kill(next(slot for slot in world.conductors if slot.being is BEING.get()))

        losses.on_loss = kill
        creating = world.users.spawn(created(world))
        await until(world, lambda: bool(losses.sent_s))
        (instance_id,) = world.store.rows.instances
        done_s = await until_state(world, instance_id, State.ACTIVE)
        assert done_s - losses.sent_s[0] <= bound_s + 10 * ROADS_S
        assert max([*losses.pauses_s(), 0.0]) <= bound_s + ROADS_S
        # Who asked may never hear of it.
        await asyncio.gather(creating, return_exceptions=True)

    in_a_cloud(seed, lose, conductors=2)


@SEEDS
@pytest.mark.parametrize("age_s", [5.0, 3 * YOUNG_S])
def test_a_dead_scheduler_costs_a_second_once_its_fleet_is_loaded(seed: int, age_s: float) -> None:
    """However long it was away."""

    async def die(world: World) -> None:
        world.kill(world.slots["scheduler-0"])
        instance_id = await created(world)
        await asyncio.sleep(age_s)
        assert not world.broker.hears(PLACE)
        decisions = Losses(world, DECIDED, first=0)
        world.start(world.slots["scheduler-0"])
        loaded_s = await until(world, lambda: world.broker.hears(PLACE))
        await until_state(world, instance_id, State.ACTIVE)
        assert decisions.sent_s[0] - loaded_s <= PLACE_S + ROADS_S

    in_a_cloud(seed, die)
