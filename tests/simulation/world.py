"""One simulated cloud: its processes, how they die and come back, and the way in for its users.

Owns processes. Does not own what they are made of (`parts`), who hurts them (`nemesis`) nor who
uses them (`users`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from services.conductor.logic.items import Item
from services.conductor.logic.rows import FlavorRow, ImageReference, ImageRow
from services.domain.errors import CloudError, Unavailable
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import QuotaAmounts, Resources
from tests.fakes.image_store import Blobs
from tests.fakes.store import MemoryStore
from tests.simulation import parts
from tests.simulation.bus import Broker
from tests.simulation.database import Database
from tests.simulation.loop import Being, SimulatedLoop
from tests.simulation.machine import IMAGE_BYTES, IMAGE_DIGEST, Machine
from tests.simulation.network import Network, Server
from tests.simulation.parts import ApiDoor, Surroundings

Answer = TypeVar("Answer")
CALL_S = 6.0
USERS = "users"


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a cloud is."""

    conductors: int = 2
    schedulers: int = 2
    apis: int = 2
    hosts: int = 3
    capacity: Resources = field(default_factory=lambda: Resources(8, 8192, 100))
    quota: int = 40
    switch: bool = False
    restored: bool = False


@dataclass(slots=True)
class Slot:
    """A place for one process: which one is there now, if any."""

    name: str
    run: Callable[[Being, Slot], Coroutine[Any, Any, None]]
    being: Being | None = None
    server: Server = field(default_factory=Server)
    door: ApiDoor | None = None
    starts: int = 0
    due: int = 0

    def reach(self) -> tuple[Being, Server] | None:
        """Where calls to it arrive."""
        if self.being is None or not self.being.alive or not self.server.serves:
            return None
        return self.being, self.server


class World:
    """A cloud of one seed."""

    def __init__(self, seed: str, shape: Shape) -> None:
        self._seed = seed
        self.shape = shape
        self.loop = SimulatedLoop(self.draws("order"))
        self.network = Network(self.loop, self.draws("network"))
        self.broker = Broker(self.network, self.draws("bus"))
        usual = QuotaAmounts(shape.quota, -1, -1, -1)
        self.store = MemoryStore(self.loop.time, usual_limits=usual, rng=self.draws("looks"))
        self.database = Database(self.network, self.draws("database"), self.store)
        self.blobs = Blobs({IMAGE_DIGEST: IMAGE_BYTES}, now_s=self.loop.time)
        self.ids = parts.SeededIds(self.loop, self.draws("ids"))
        self.around = Surroundings(
            self.loop, self.network, self.broker, self.database, self.ids,
            self.draws("processes"), shape.quota, self.blobs,
            parts.PowerSwitch(self.draws("switch"), self.lose) if shape.switch else None,
        )  # fmt: skip
        self.users = Being(USERS, self.loop)
        self.crashes: list[str] = []
        self.slots: dict[str, Slot] = {}
        self.machines: dict[str, Machine] = {}
        # Machines that are off until somebody brings them back.
        self.lost: set[str] = set()
        self.flavor_id = self.ids.new_id()
        self.image_id = self.ids.new_id()
        self._build()

    def draws(self, what: str) -> Random:
        """A source of chance of its own, so that one more draw here changes nothing there."""
        return Random(f"{self._seed}/{what}")  # it has to be the same again

    def _build(self) -> None:
        shape = self.shape
        conductors = [
            self._slot(f"conductor-{n}", self._conductor) for n in range(shape.conductors)
        ]
        for n in range(shape.schedulers):
            self._slot(f"scheduler-{n}", self._scheduler)
        apis = [self._slot(f"api-{n}", self._api) for n in range(shape.apis)]
        self.conductors, self.apis = conductors, apis
        for n in range(shape.hosts):
            host_id = f"host-{n}"
            draws = self.draws(host_id)
            self.machines[host_id] = Machine(host_id, self.loop, draws, shape.capacity)
            self._slot(host_id, self._compute)

    def _slot(self, name: str, run: Callable[[Being, Slot], Coroutine[Any, Any, None]]) -> Slot:
        slot = self.slots[name] = Slot(name, run)
        return slot

    async def open(self) -> None:
        """Puts the first rows in, and starts everything."""
        flavor = FlavorRow(self.flavor_id, "small", Resources(1, 512, 5), parts.EPOCH_S)
        reference = ImageReference(
            IMAGE_DIGEST, len(IMAGE_BYTES), ImageKind.RAW, Architecture.X86_64
        )
        image = ImageRow(self.image_id, "p", "image", reference, 1, True, parts.EPOCH_S)
        await self.store.items_commit([Item(entry=flavor), Item(entry=image)])
        for slot in self.slots.values():
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Starts its process, if none is there and its machine is on."""
        if slot.name in self.lost or (slot.being is not None and slot.being.alive):
            return
        slot.starts += 1
        slot.server = Server()
        being = slot.being = Being(slot.name, self.loop)
        task = being.spawn(self._live(slot, being), name=slot.name)
        task.add_done_callback(lambda _: None)

    def start_in(self, slot: Slot, delay_s: float) -> None:
        """Starts it after a while, unless something else was said about it since."""
        slot.due += 1
        due = slot.due

        def begin() -> None:
            if slot.due == due:
                self.start(slot)

        self.loop.call_later(delay_s, begin, context=self.users.context())

    def kill(self, slot: Slot) -> None:
        """As by SIGKILL."""
        if slot.being is not None:
            slot.being.kill()

    def lose(self, host_id: str) -> None:
        """A machine is off with all that ran on it, its disks are not lost."""
        if host_id in self.lost:
            return
        self.lost.add(host_id)
        self.kill(self.slots[host_id])
        self.machines[host_id].lose_power()

    def find(self, host_id: str) -> None:
        """It is on again."""
        self.lost.discard(host_id)
        self.start(self.slots[host_id])

    async def _live(self, slot: Slot, being: Being) -> None:
        """Runs until it dies; one that ends by itself is started again, as `stead up` does."""
        try:
            await slot.run(being, slot)
        except BaseException as error:  # noqa: BLE001  # whatever ended it is told
            self._note_crash(slot, error)
        self.start_in(slot, 1.0)
        being.kill()

    def _note_crash(self, slot: Slot, error: BaseException) -> None:
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
        told = [e for e in inner if not isinstance(e, asyncio.CancelledError | CloudError)]
        if told:
            self.crashes.append(f"{slot.name} ended by {told!r}")

    async def _conductor(self, being: Being, slot: Slot) -> None:
        await parts.run_conductor(self.around, being, slot.server)

    async def _scheduler(self, being: Being, slot: Slot) -> None:
        await parts.run_scheduler(self.around, being, self._to_conductor(being))

    async def _api(self, being: Being, slot: Slot) -> None:
        slot.door, run = parts.make_api(self.around, being, self._to_conductor(being))
        slot.server = slot.door.ingress
        await run()

    async def _compute(self, being: Being, slot: Slot) -> None:
        reaches = {api.name: api.reach for api in self.apis}
        await parts.run_compute(self.around, being, self.machines[slot.name], reaches)

    def _to_conductor(self, being: Being) -> parts.Reach:
        rng = self.draws(f"{being.name}/{self.slots[being.name].starts}")

        def reach() -> tuple[Being, Server] | None:
            found = [slot.reach() for slot in self.conductors]
            living = [one for one in found if one is not None]
            near = [one for one in living if self.network.passes(being.name, one[0].name)]
            return rng.choice(near or living) if living else None

        return reach

    # The way in for users: one call, or one stream, to an api.

    async def ask(
        self, slot: Slot, do: Callable[[ApiDoor], Awaitable[Answer]], timeout_s: float = CALL_S
    ) -> Answer:
        """What the api answers. Raises what it refuses, Unavailable where nobody knows."""
        answers: asyncio.Queue[Any] = asyncio.Queue()

        async def work(door: ApiDoor, tell: Callable[[Any], None]) -> None:
            tell(await do(door))

        task = self._begin(slot, work, answers)
        try:
            async with asyncio.timeout(timeout_s):
                found = await answers.get()
        except TimeoutError:
            raise _unknown() from None
        finally:
            if task is not None:
                self._cancel(task)
        if isinstance(found, Exception):
            raise found
        answer: Answer = found
        return answer

    async def stream(
        self, slot: Slot, do: Callable[[ApiDoor], AsyncIterator[Answer]], silence_s: float
    ) -> AsyncGenerator[Answer, None]:
        """What the api streams, until it breaks off. Raises as `ask` does."""
        answers: asyncio.Queue[Any] = asyncio.Queue()

        async def work(door: ApiDoor, tell: Callable[[Any], None]) -> None:
            async for answer in do(door):
                tell(answer)
            tell(_unknown())

        task = self._begin(slot, work, answers)
        try:
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        found = await answers.get()
                except TimeoutError:
                    raise _unknown() from None
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            if task is not None:
                self._cancel(task)

    def _begin(self, slot: Slot, work: Any, answers: asyncio.Queue[Any]) -> Any:
        network, being, door = self.network, slot.being, slot.door
        if being is None or not being.alive or door is None:
            network.at(self.users, network.delay_s(), lambda: answers.put_nowait(_unknown()))
            return None
        number = self.loop.next_serial()
        state: dict[str, Any] = {"due_s": 0.0, "task": None, "being": being}
        coming: deque[Any] = deque()

        def tell(found: Any) -> None:
            # In order, as on one connection; what is told while cut off is lost with it.
            now_s = self.loop.time()
            state["due_s"] = max(state["due_s"], now_s + network.delay_s())
            # A connection that lost something is dead: nothing that came after is told either.
            state["broken"] = state.get("broken") or not network.passes(USERS, being.name)
            if not state["broken"]:
                coming.append(found)
                delay_s = state["due_s"] - now_s
                network.at(self.users, delay_s, lambda: answers.put_nowait(coming.popleft()))

        async def run() -> None:
            try:
                await work(door, tell)
            except CloudError as error:
                tell(error)
            finally:
                being.on_death.pop(number, None)

        def begin() -> None:
            if not state.get("cancelled"):
                state["task"] = being.spawn(run())

        being.on_death[number] = lambda: tell(_unknown())
        network.at(being, network.delay_s(), begin)
        return state

    def _cancel(self, state: dict[str, Any]) -> None:
        state["cancelled"] = True
        being: Being = state["being"]

        def cancel() -> None:
            if state["task"] is not None:
                state["task"].cancel()

        self.network.at(being, self.network.delay_s(), cancel)


def _unknown() -> Unavailable:
    return Unavailable("PEER_UNREACHABLE", "nobody knows what became of it")
