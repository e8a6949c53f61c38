"""A conductor's flows in this process: the real store, and a bus and a clock of the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.accept import Acceptor, NewInstance
from services.conductor.flows.advance import Advancer
from services.conductor.flows.answer import Asked
from services.conductor.flows.commit import Committer
from services.conductor.flows.decide import Decider
from services.conductor.flows.greet import Greeter, Hello
from services.conductor.flows.lease import Leaser
from services.conductor.flows.observe import Observer
from services.conductor.flows.ports import Bus
from services.conductor.logic.rows import Caller, ClaimRow, ImageReference, InstanceRow, Record
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import NOTHING, Overcommit, Resources
from services.runtime.ids import new_id

ME = Caller("me", "p", cloud_admin=False)
IMAGE = ImageReference("a" * 64, 10, ImageKind.KERNEL, Architecture.X86_64)


@dataclass
class Sent:
    """A bus that keeps what is sent."""

    places: list[tuple[InstanceRow, int]] = field(default_factory=list)
    commands: list[tuple[str, int, InstanceRow, ClaimRow]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    placed: asyncio.Event = field(default_factory=asyncio.Event)

    async def place(self, instances: Sequence[InstanceRow], min_revision: int) -> None:
        self.places += [(row, min_revision) for row in instances]
        self.placed.set()

    async def command(
        self, host_id: str, incarnation: int, wanted: Sequence[tuple[InstanceRow, ClaimRow]]
    ) -> None:
        self.commands += [(host_id, incarnation, row, claim) for row, claim in wanted]

    async def feed(self, records: Sequence[Record], head_revision: int) -> None:
        self.records += records


class Clock:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.at_s = 1_700_000_000.0

    def now_s(self) -> float:
        return self.at_s


class Ids:
    def new_id(self) -> str:
        return new_id()


class Conductor:
    """The flows of one conductor, joined as its __main__ joins them."""

    def __init__(self, url: str, bus: Bus, clock: Clock) -> None:
        self.store = PostgresStore(url)
        self.committer = Committer(self.store, bus)
        self.advancer = Advancer(self.store, bus, self.committer, clock)
        self.acceptor = Acceptor(
            store=self.store,
            committer=self.committer,
            advancer=self.advancer,
            clock=clock,
            ids=Ids(),
        )
        self.observer = Observer(self.store, self.committer, self.advancer, clock)
        self.greeter = Greeter(self.store, self.committer, clock)
        self.leaser = Leaser(self.store, self.committer, clock)
        self.decider = Decider(self.committer, self.advancer, clock)

    def lanes(self) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(part.run())
            for part in (self.committer, self.advancer, self.acceptor, self.observer)
        ]


@contextlib.asynccontextmanager
async def conductor(url: str, bus: Bus, clock: Clock | None = None) -> AsyncIterator[Conductor]:
    """Flows that run."""
    made = Conductor(url, bus, clock or Clock())
    lanes = made.lanes()
    try:
        yield made
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        await made.store.close()


def hello(host_id: str = "h1", capacity: Resources = Resources(8, 8000, 800)) -> Hello:
    return Hello(host_id, "machine", "boot", "1", capacity, NOTHING, Overcommit(1000), b"")


def asked(method: str = "create_instance", request_id: str = "", caller: Caller = ME) -> Asked:
    return Asked(caller, method, request_id or new_id(), b"f")


async def catalog(made: Conductor, size: Resources = Resources(1, 100, 1)) -> tuple[str, str]:
    """A flavor and an image; their ids."""
    admin = Caller("root", "admin", cloud_admin=True)
    flavor = await made.acceptor.create_flavor(asked("create_flavor", "", admin), "small", size)
    image = await made.acceptor.register_image(
        asked("register_image", "", admin), ("disk", IMAGE), 1, public=True
    )
    return flavor.resource.id, image.resource.id


def new_instance(name: str, ids: tuple[str, str]) -> NewInstance:
    return NewInstance(name, ids[0], ids[1], {}, (), b"")
