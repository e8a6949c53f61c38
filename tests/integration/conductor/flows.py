"""A conductor's flows in this process: the real store, and a bus and a clock of the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from stead.v1 import host_pb2

from services.conductor.edges.bodies import MessageBodies
from services.conductor.edges.servicer import ConductorServicer, Flows
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.edges.wishes import Acceptors
from services.conductor.flows.accept import Acceptance
from services.conductor.flows.accept_cancel import CancelAcceptor
from services.conductor.flows.accept_catalog import CatalogAcceptor, NewImage
from services.conductor.flows.accept_evacuate import EvacuationAcceptor
from services.conductor.flows.accept_guest import GuestAcceptor
from services.conductor.flows.accept_host import HostAcceptor
from services.conductor.flows.accept_instance import InstanceAcceptor, NewInstance
from services.conductor.flows.accept_power import PowerAcceptor
from services.conductor.flows.accept_project import ProjectAcceptor
from services.conductor.flows.advance import Advancer
from services.conductor.flows.answer import Answerer, Asked
from services.conductor.flows.commit import Committer
from services.conductor.flows.decide import Decider
from services.conductor.flows.greet import Greeter, Hello
from services.conductor.flows.lease import Leaser
from services.conductor.flows.observe import Observer
from services.conductor.flows.ports import Bus, CloudIdentity
from services.conductor.flows.read import Reader
from services.conductor.logic.items import Record
from services.conductor.logic.rows import Caller, ClaimRow, ImageReference, InstanceRow
from services.conductor.logic.steps import Command, Place
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import NOTHING, UNLIMITED, Overcommit, QuotaAmounts, Resources
from services.domain.trace import Trace
from services.runtime.ids import new_id
from tests.stores import CLOUD

ABLE = host_pb2.DriverCapabilities(pause=True, suspend=True).SerializeToString()
ME = Caller("me", "p", cloud_admin=False)
IMAGE = ImageReference("a" * 64, 10, ImageKind.KERNEL, Architecture.X86_64)


@dataclass
class Sent:
    """A bus that keeps what is sent."""

    places: list[tuple[InstanceRow, int]] = field(default_factory=list)
    commands: list[tuple[str, int, InstanceRow, ClaimRow]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    placed: asyncio.Event = field(default_factory=asyncio.Event)

    async def place(self, places: Sequence[Place], min_revision: int) -> None:
        self.places += [(place.instance, min_revision) for place in places]
        self.traces += [place.trace for place in places]
        self.placed.set()

    async def command(self, host_id: str, incarnation: int, commands: Sequence[Command]) -> None:
        self.commands += [(host_id, incarnation, c.instance, c.claim) for c in commands]
        self.traces += [command.trace for command in commands]

    async def feed(
        self, records: Sequence[Record], head_revision: int, *, compacted_revision: int
    ) -> None:
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

    def __init__(
        self, url: str, bus: Bus, clock: Clock, *, usual: QuotaAmounts = UNLIMITED
    ) -> None:
        bodies = MessageBodies()
        self.store = PostgresStore(url, usual_limits=usual)
        self.committer = Committer(self.store, bus)
        self.advancer = Advancer(self.store, bus, self.committer, clock)
        self.acceptance = Acceptance(
            store=self.store,
            committer=self.committer,
            clock=clock,
            ids=Ids(),
            answers=Answerer(self.store, bodies, usual),
        )
        self.instances = InstanceAcceptor(self.acceptance, self.advancer)
        self.power = PowerAcceptor(self.acceptance, self.advancer)
        self.catalog = CatalogAcceptor(self.acceptance)
        self.projects = ProjectAcceptor(self.acceptance, usual)
        self.hosts = HostAcceptor(self.acceptance)
        self.guests = GuestAcceptor(self.acceptance, self.store.audits)
        self.evacuations = EvacuationAcceptor(self.acceptance, self.advancer)
        self.cancels = CancelAcceptor(self.acceptance, bodies)
        self.reader = Reader(self.store, bodies, usual)
        self.observer = Observer(self.store, self.committer, self.advancer, clock)
        self.greeter = Greeter(self.store, self.committer, clock)
        self.leaser = Leaser(self.store, self.committer, clock)
        self.decider = Decider(self.committer, self.advancer, clock)

    def flows(self) -> Flows:
        """What a servicer calls."""
        acceptors = Acceptors(
            instances=self.instances,
            power=self.power,
            catalog=self.catalog,
            projects=self.projects,
            hosts=self.hosts,
            guests=self.guests,
            evacuations=self.evacuations,
            cancels=self.cancels,
        )
        return Flows(acceptors, self.reader, self.observer, self.greeter, self.leaser)

    def servicer(self) -> ConductorServicer:
        """The servicer over these flows, to be called without a server."""
        return ConductorServicer(self.flows(), self.store, CloudIdentity(CLOUD, "history"))

    def lanes(self) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(part.run())
            for part in (
                self.committer,
                self.advancer,
                self.acceptance,
                self.observer,
                self.reader,
            )
        ]


@contextlib.asynccontextmanager
async def conductor(
    url: str, bus: Bus, clock: Clock | None = None, *, usual: QuotaAmounts = UNLIMITED
) -> AsyncIterator[Conductor]:
    """Flows that run; `usual` are the limits of projects without their own."""
    made = Conductor(url, bus, clock or Clock(), usual=usual)
    lanes = made.lanes()
    try:
        yield made
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        await made.store.close()


def hello(host_id: str = "h1", capacity: Resources = Resources(8, 8000, 800)) -> Hello:
    return Hello(host_id, "machine", "boot", "1", capacity, NOTHING, Overcommit(1000), ABLE)


def asked(method: str = "create_instance", request_id: str = "", caller: Caller = ME) -> Asked:
    return Asked(caller, method, request_id or new_id(), b"f")


async def catalog(
    made: Conductor, size: Resources = Resources(1, 100, 1), suffix: str = ""
) -> tuple[str, str]:
    """A flavor and an image; their ids."""
    admin = Caller("root", "admin", cloud_admin=True)
    flavor = await made.catalog.create_flavor(
        asked("create_flavor", "", admin), "small" + suffix, size
    )
    image = await made.catalog.register_image(
        asked("register_image", "", admin), NewImage("disk" + suffix, IMAGE, 1, public=True)
    )
    return flavor.resource.id, image.resource.id


def new_instance(name: str, ids: tuple[str, str]) -> NewInstance:
    return NewInstance(name, ids[0], ids[1], {}, (), b"")
