"""Joins the parts of api and serves. `python -m services.api` needs its environment and files
alone.
"""

import asyncio
from functools import partial

import grpc

from services.api.config import Settings
from services.api.edges.authentication import Authentication
from services.api.edges.bus import Questions, follow_bus
from services.api.edges.compute_ingress import ComputeIngress
from services.api.edges.conductor import Conductor, HostRecords
from services.api.edges.flavor_servicer import FlavorServicer
from services.api.edges.host_servicer import HostServicer
from services.api.edges.image_servicer import ImageServicer
from services.api.edges.image_store import ImageStore
from services.api.edges.instance_servicer import InstanceServicer
from services.api.edges.operation_servicer import OperationServicer
from services.api.edges.servers import SERVICES, ingress_server, public_server
from services.api.edges.tokens import Tokens, load_key
from services.api.flows.drop_unused import SWEEP_EVERY_S, sweep
from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.read_console import ConsoleRoad, Tickets
from services.runtime import rpc, serve
from services.runtime.clock import RealClock
from services.runtime.log import logger

DRAIN_S = 4.0
HOSTS_DRAIN_S = 1.0


async def main(stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then drains: not ready, streams ended, calls finished, gone."""
    settings = Settings()  # type: ignore[call-arg]  # the environment gives them
    cloud_id, credential = settings.cloud_id, settings.nats_credential()
    health = serve.Health("stead.api", *SERVICES)
    channel = rpc.channel(settings.conductor)
    conductor, records, clock = Conductor(channel), HostRecords(channel), RealClock()
    hub, tickets = Hub(bytes_max=settings.watch_buffer_bytes), Tickets()
    feed = Feed(conductor, hub, clock)
    questions = Questions(cloud_id, settings.ingress_endpoint or settings.ingress_listen)
    store, page_key = ImageStore(settings.image_dir), settings.page_key()
    road = ConsoleRoad(questions, tickets)
    public = public_server(
        (
            InstanceServicer(conductor, page_key=page_key, hub=hub, feed=feed, road=road),
            OperationServicer(conductor, page_key=page_key, hub=hub),
            FlavorServicer(conductor, page_key=page_key),
            ImageServicer(conductor, page_key=page_key, store=store),
            HostServicer(conductor, page_key=page_key),
        ),
        authentication=Authentication(Tokens(load_key(settings.token_key_file), cloud_id)),
        health=health,
    )
    ingress = ingress_server(ComputeIngress(records, store=store, tickets=tickets, clock=clock))
    public.add_insecure_port(settings.listen)
    ingress.add_insecure_port(settings.ingress_listen)
    forever = (
        *conductor.lanes(),
        *records.lanes(),
        feed.run(),
        follow_bus(settings.nats_url, credential, cloud_id, feed=feed, questions=questions),
        _become_ready(feed, health),
        _sweep(feed, conductor, store),
    )
    async with serve.admin_server(settings.admin_listen, health), channel:
        await asyncio.gather(public.start(), ingress.start())
        drained = asyncio.Event()
        drain = _drain(stop, drained, health=health, hub=hub, servers=(public, ingress))
        await serve.run_until(drained, *forever, drain)


async def _become_ready(feed: Feed, health: serve.Health) -> None:
    await feed.begun.wait()
    await health.set_ready(True)
    logger().info("ready")


async def _sweep(feed: Feed, conductor: Conductor, store: ImageStore) -> None:
    await feed.begun.wait()
    await serve.every(SWEEP_EVERY_S, partial(sweep, conductor, store))


async def _drain(
    stop: asyncio.Event,
    drained: asyncio.Event,
    *,
    health: serve.Health,
    hub: Hub,
    servers: tuple[grpc.aio.Server, grpc.aio.Server],
) -> None:
    await stop.wait()
    await health.set_ready(False)
    hub.close()
    public, ingress = servers
    await asyncio.gather(public.stop(DRAIN_S), ingress.stop(HOSTS_DRAIN_S))
    drained.set()


if __name__ == "__main__":
    serve.run("api", main)
