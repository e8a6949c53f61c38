"""The services of a simulated cloud, joined as their `__main__` files join them; only what leaves a
process is another: the network, the bus, the database, the hypervisor, the clock, fresh ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

from stead.internal.v1 import (
    compute_pb2_grpc,
    conductor_pb2_grpc,
    resource_pb2,
)

from services.api.edges.audit_conductor import ConductorAudits
from services.api.edges.bus import Questions
from services.api.edges.compute_ingress import ComputeIngress
from services.api.edges.conductor import Conductor
from services.api.edges.conductor_messages import changes_from
from services.api.edges.conversation import Conversation
from services.api.edges.host_records import HostRecords
from services.api.edges.row_fields import fields_of
from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.import_image import uploads
from services.api.flows.read_console import ConsoleRoad, Tickets
from services.api.flows.share import Shares
from services.compute.edges.attachments import GrpcAttachments
from services.compute.edges.commands import Listener, listen
from services.compute.edges.ingress import GrpcBlobs, GrpcIngress
from services.compute.flows.agent import Agent
from services.compute.flows.answer_question import answer_question, refuse_question
from services.compute.flows.attach_console import Consoles
from services.compute.flows.fetch_image import ImageFetcher
from services.compute.flows.live import live
from services.compute.flows.ports import HostProfile
from services.compute.flows.reconcile import Tools
from services.conductor import __main__ as conductor_main
from services.conductor.config import Settings
from services.conductor.edges.audit_servicer import AuditFlows, AuditingServicer
from services.conductor.edges.bus import NatsBus
from services.conductor.flows.audit import Auditor
from services.conductor.flows.inventory import Inventorist
from services.conductor.flows.ports import CloudIdentity
from services.domain.errors import Unavailable
from services.domain.resources import NOTHING, Overcommit
from services.runtime import subjects
from services.scheduler.edges import feed as fleet_feed
from services.scheduler.edges import place_requests
from services.scheduler.edges.conductor import Conductor as FleetRows
from services.scheduler.edges.decisions import DecisionMessages
from services.scheduler.flows.follow_fleet import FleetFollowing
from services.scheduler.flows.place import Placement
from services.scheduler.logic.fleet import Fleet
from services.scheduler.logic.weighers import Weights
from tests.fakes.image_store import Blobs, MemoryImageStore
from tests.simulation.bus import Broker, SimulatedBus
from tests.simulation.database import Database, SimulatedStore
from tests.simulation.loop import Being, SimulatedLoop
from tests.simulation.machine import Machine, MachineDriver, MemoryShelf
from tests.simulation.network import Channel, Network, Server

CLOUD_ID = "5eed5eed5eed"
PAGE_KEY = b"k" * 32
EPOCH_S = 1_700_000_000.0
WATCH_BUFFER_BYTES = 200_000
RECONNECT_S_MAX = 2.0


class LoopClock:
    """The loop's time in each form in which a flow asks for it."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now_s(self) -> float:
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class RowClock(LoopClock):
    """Seconds since 1970."""

    def now_s(self) -> float:
        return EPOCH_S + super().now_s()


class SeededIds:
    """Ids that a seed gives, in the order of time as those of version 7 are."""

    def __init__(self, loop: SimulatedLoop, rng: Random) -> None:
        self._loop = loop
        self._rng = rng

    def new_id(self) -> str:
        at_ms = int((EPOCH_S + self._loop.time()) * 1000)
        value = at_ms << 80 | 0x7 << 76 | self._rng.getrandbits(12) << 64
        return str(UUID(int=value | 0b10 << 62 | self._rng.getrandbits(62)))


@dataclass(slots=True)
class Surroundings:
    """What all processes of one cloud share."""

    loop: SimulatedLoop
    network: Network
    broker: Broker
    database: Database
    ids: SeededIds
    rng: Random
    quota: int
    blobs: Blobs
    switch: PowerSwitch | None = None


class PowerSwitch:
    """What fences hosts by itself, where a cloud has one: slow, and now and then out of order."""

    name = "power switch"

    def __init__(self, rng: Random, power_off: Callable[[str], None]) -> None:
        self._rng = rng
        self._power_off = power_off

    async def fence(self, host_id: str) -> bool:
        await asyncio.sleep(self._rng.uniform(0.1, 5.0))
        if self._rng.random() < 0.2:
            return False
        self._power_off(host_id)
        await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        return True


Reach = Callable[[], tuple[Being, Server] | None]


@dataclass(slots=True)
class ApiDoor:
    """What a user finds of one api, and where hosts come in."""

    conductor: Conductor
    audits: ConductorAudits
    consoles: ConsoleRoad
    images: MemoryImageStore
    uploads: Shares
    feed: Feed
    ingress: Server


async def run_conductor(around: Surroundings, being: Being, server: Server) -> None:
    """One conductor until it dies; it answers at `server`."""
    settings = Settings(
        STEAD_CLOUD_ID=CLOUD_ID, STEAD_NATS_URL="", listen="", postgres_url="",
        quota_instances=around.quota,
    )  # type: ignore[call-arg]  # the aliases are its environment's names  # fmt: skip
    simulated = SimulatedStore(around.database, being)
    store: Any = simulated
    cloud = CloudIdentity(CLOUD_ID, simulated.history_id)
    nats = NatsBus(_bus(around, being), cloud)
    parts = conductor_main.join(
        settings, store, nats, audits=store, clock=RowClock(around.loop), ids=around.ids,
        fences=around.switch,
    )  # fmt: skip
    inventorist = Inventorist(store, nats)
    auditing = AuditFlows(inventorist, Auditor(store, inventorist))
    servicer = AuditingServicer(parts.flows, store, cloud, auditing)
    conductor_pb2_grpc.add_ConductorServiceServicer_to_server(servicer, _any(server))
    await nats.subscribe_decisions(parts.decider)

    async def until_over() -> None:
        await simulated.over.wait()
        raise Unavailable("DATABASE_UNAVAILABLE", "another history began: another conductor")

    async with asyncio.TaskGroup() as group:
        for work in (*parts.forever, until_over):
            group.create_task(work())


async def run_scheduler(around: Surroundings, being: Being, to_conductor: Reach) -> None:
    """One scheduler until it dies."""
    bus, clock, fleet = _bus(around, being), LoopClock(around.loop), Fleet()
    channel = _any(Channel(around.network, being, to_conductor))
    following = FleetFollowing(fleet, FleetRows(channel), clock=clock)
    decisions = DecisionMessages(bus, CLOUD_ID)
    placement = Placement(fleet, following, decisions, weights=Weights(), clock=clock)
    await fleet_feed.subscribe(bus, CLOUD_ID, following.receive)
    async with asyncio.TaskGroup() as group:
        group.create_task(following.run(placement.fleet_advanced))
        group.create_task(placement.run())
        await following.loaded.wait()
        await place_requests.subscribe(bus, CLOUD_ID, placement.take)


def make_api(around: Surroundings, being: Being, to_conductor: Reach) -> tuple[ApiDoor, Any]:
    """One api, and what has to run for it."""
    clock = LoopClock(around.loop)
    channel = _any(Channel(around.network, being, to_conductor))
    stub: Any = conductor_pb2_grpc.ConductorServiceStub(channel)
    conversation = Conversation(stub)
    conductor, records = Conductor(stub, conversation), HostRecords(stub, conversation)
    hub = Hub(bytes_max=WATCH_BUFFER_BYTES, fields_of=fields_of, clock=clock)
    feed = Feed(conductor, hub, clock)
    ingress = Server()
    images = MemoryImageStore(around.blobs)
    being.on_death[around.loop.next_serial()] = images.die
    questions, tickets = Questions(CLOUD_ID, being.name), Tickets()
    servicer = ComputeIngress(records, feed, store=images, tickets=tickets, clock=clock)
    compute_pb2_grpc.add_ComputeIngressServiceServicer_to_server(servicer, _any(ingress))

    async def follow() -> None:
        async def on_feed(payload: bytes) -> None:
            await feed.receive(changes_from(resource_pb2.FeedBatch.FromString(payload)))

        bus = _bus(around, being)
        questions.use(bus)
        await bus.subscribe(subjects.feed(CLOUD_ID), on_feed)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            works = (conversation.run(), *conductor.lanes(), *records.lanes(), feed.run(), follow())
            for work in works:
                group.create_task(work)

    road = ConsoleRoad(questions, tickets)
    audits = ConductorAudits(stub)
    return ApiDoor(conductor, audits, road, images, uploads(), feed, ingress), run


class Door:
    """The api that a host speaks to, as `edges.replicas.Door` is."""

    def __init__(self, channels: list[Channel], place: int) -> None:
        self._channels = channels
        self._place = place

    @property
    def stub(self) -> Any:
        channel = self._channels[self._place % len(self._channels)]
        return compute_pb2_grpc.ComputeIngressServiceStub(_any(channel))

    def turn(self) -> None:
        self._place += 1


class Replicas:
    """The apis by the names under which they ask, as `edges.replicas.Replicas` knows them."""

    def __init__(self, channels: dict[str, Channel]) -> None:
        self._channels = channels

    async def channel_of(self, target: str) -> Channel:
        return self._channels[target]


async def run_compute(
    around: Surroundings, being: Being, machine: Machine, to_apis: dict[str, Reach]
) -> None:
    """One agent until it dies or is superseded."""
    channels = {name: Channel(around.network, being, reach) for name, reach in to_apis.items()}
    door: Any = Door(list(channels.values()), around.rng.randrange(len(channels)))
    rng = Random(around.rng.getrandbits(64))
    driver = MachineDriver(machine, CLOUD_ID)
    images = ImageFetcher(MemoryShelf(machine))
    tools = Tools(driver, images, GrpcBlobs(door, machine.host_id), steps_max=4, rng=rng)
    profile = HostProfile(
        machine.host_id, f"machine of {machine.host_id}", machine.boot_id, "sim", NOTHING,
        Overcommit(),
    )  # fmt: skip
    agent = Agent(
        profile,
        tools,
        cloud_id=CLOUD_ID,
        ingress=GrpcIngress(door),
        reconnect_s_max=RECONNECT_S_MAX,
    )

    attachments = GrpcAttachments(_any(Replicas(channels)))
    consoles = Consoles(driver, agent.reconciler.look)
    answer = partial(answer_question, consoles=consoles, attachments=attachments)
    refuse = partial(refuse_question, attachments=attachments)

    async def connect() -> Any:
        await asyncio.sleep(0)
        return _bus(around, being)

    async def ready() -> None:
        """Nobody waits for it."""

    listener = Listener(machine.host_id, agent.hear_echo, agent.receive_command, answer, refuse)
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(listen(connect, CLOUD_ID, [listener]))
        living = group.create_task(live([agent], on_ready=ready, on_end=ended.set))
        await ended.wait()
        hearing.cancel()
        living.cancel()


def _bus(around: Surroundings, being: Being) -> Any:
    return SimulatedBus(around.broker, being)


def _any(what: Any) -> Any:
    """What stands in for a part of gRPC."""
    return what
