"""Joins the parts of api and serves. `python -m services.api` needs its environment and files
alone.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

import grpc
from stead.internal.v1 import conductor_pb2_grpc

from services.api.config import Settings
from services.api.edges.audit_conductor import ConductorAudits
from services.api.edges.bus import Questions, follow_bus
from services.api.edges.compute_ingress import ComputeIngress
from services.api.edges.conductor import Conductor
from services.api.edges.conversation import Conversation
from services.api.edges.desk import Desk
from services.api.edges.figures import add_gauges
from services.api.edges.host_records import HostRecords
from services.api.edges.image_store import ImageStore
from services.api.edges.row_fields import fields_of
from services.api.edges.servers import SERVICES, ingress_server, public_server, servicers
from services.api.edges.tokens import Tokens, load_key
from services.api.flows.drop_unused import SWEEP_EVERY_S, sweep
from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.read_console import ConsoleRoad, Tickets
from services.runtime import rpc, serve
from services.runtime.clock import RealClock
from services.runtime.log import logger
from services.runtime.metrics import Meters

DRAIN_S = 4.0
HOSTS_DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Draining:
    """What has to end, and how long after saying so."""

    health: serve.Health
    hub: Hub
    tickets: Tickets
    servers: tuple[grpc.aio.Server, grpc.aio.Server]
    delay_s: float


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then drains: not ready, streams ended, calls finished, gone."""
    cloud_id, credential = settings.cloud_id, settings.nats_credential()
    health = serve.Health("stead.api", *SERVICES)
    channel, clock = rpc.channel(settings.conductor), RealClock()
    stub: conductor_pb2_grpc.ConductorServiceAsyncStub = conductor_pb2_grpc.ConductorServiceStub(
        channel
    )
    conversation = Conversation(stub)
    conductor, records = Conductor(stub, conversation), HostRecords(stub, conversation)
    hub, tickets = Hub(bytes_max=settings.watch_buffer_bytes, fields_of=fields_of), Tickets()
    feed = Feed(conductor, hub, clock)
    questions = Questions(cloud_id, settings.ingress_endpoint or settings.ingress_listen)
    store = ImageStore(settings.image_dir)
    desk = Desk(conductor, hub, feed, settings.page_key())
    public = public_server(
        servicers(desk, store, ConsoleRoad(questions, tickets), ConductorAudits(stub)),
        tokens=Tokens(load_key(settings.token_key_file), cloud_id),
        health=health,
        connection_age_s=settings.connection_age_s,
        connection_age_grace_s=settings.connection_age_grace_s,
    )
    ingress = ingress_server(
        ComputeIngress(records, feed, store=store, tickets=tickets, clock=clock)
    )
    public.add_insecure_port(settings.listen)
    ingress.add_insecure_port(settings.ingress_listen)
    forever = (
        conversation.run(),
        *conductor.lanes(),
        *records.lanes(),
        feed.run(),
        follow_bus(settings.nats_url, credential, cloud_id, feed=feed, questions=questions),
        _become_ready(feed, health),
        _sweep(feed, conductor, store),
    )
    meters = Meters("api")
    add_gauges(meters, hub, feed)
    async with serve.admin_server(settings.admin_listen, health, meters), channel:
        await asyncio.gather(public.start(), ingress.start())
        drained = asyncio.Event()
        draining = Draining(health, hub, tickets, (public, ingress), settings.drain_delay_s)
        await serve.run_until(drained, *forever, _drain(stop, drained, draining))


async def _become_ready(feed: Feed, health: serve.Health) -> None:
    await feed.begun.wait()
    await health.set_ready(True)
    logger().info("ready")


async def _sweep(feed: Feed, conductor: Conductor, store: ImageStore) -> None:
    await feed.begun.wait()
    await serve.every(SWEEP_EVERY_S, partial(sweep, conductor, store))


async def _drain(stop: asyncio.Event, drained: asyncio.Event, draining: Draining) -> None:
    await stop.wait()
    await draining.health.set_ready(False)
    await asyncio.sleep(draining.delay_s)
    draining.hub.close()
    draining.tickets.close()
    public, ingress = draining.servers
    await asyncio.gather(public.stop(DRAIN_S), ingress.stop(HOSTS_DRAIN_S))
    drained.set()


def _run() -> None:
    settings = Settings()  # type: ignore[call-arg]  # the environment gives them
    grace_s = serve.GRACE_S + settings.drain_delay_s
    serve.run("api", partial(main, settings), grace_s=grace_s)


if __name__ == "__main__":
    _run()
