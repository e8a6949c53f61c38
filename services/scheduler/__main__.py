"""The scheduler as a process: joins its parts.

It does not listen for requests before its fleet is loaded, so that another replica gets them; then
it is ready.
"""

import asyncio
import contextlib

from services.runtime import bus, rpc, serve
from services.runtime.clock import RealClock
from services.runtime.metrics import Meters
from services.scheduler.config import Settings
from services.scheduler.edges import feed, figures, place_requests
from services.scheduler.edges.conductor import Conductor
from services.scheduler.edges.decisions import DecisionMessages
from services.scheduler.flows.follow_fleet import FleetFollowing
from services.scheduler.flows.place import Placement
from services.scheduler.logic.fleet import Fleet
from services.scheduler.logic.weighers import Weights

DRAIN_S = 2.0


async def schedule(settings: Settings, health: serve.Health, meters: Meters) -> None:
    """Places until cancelled."""
    async with contextlib.AsyncExitStack() as stack:
        channel = await stack.enter_async_context(rpc.channel(settings.conductor))
        connection = await bus.connect(
            settings.nats_url, name="scheduler", credential=settings.nats_credential()
        )
        stack.push_async_callback(connection.close)
        fleet, clock = Fleet(), RealClock()
        following = FleetFollowing(fleet, Conductor(channel), clock=clock)
        placement = Placement(
            fleet,
            following,
            DecisionMessages(connection, settings.cloud_id),
            weights=Weights(settings.weight_cpu, settings.weight_ram, settings.weight_disk),
            clock=clock,
        )
        figures.add_gauges(meters, fleet, placement)
        await feed.subscribe(connection, settings.cloud_id, following.receive)
        async with asyncio.TaskGroup() as group:
            group.create_task(following.run(placement.fleet_advanced))
            group.create_task(placement.run())
            await following.loaded.wait()
            stop = await place_requests.subscribe(connection, settings.cloud_id, placement.take)
            await health.set_ready(True)
            try:
                await asyncio.Event().wait()
            finally:
                # From now on another replica is asked; what was asked here is still answered.
                await health.set_ready(False)
                await stop()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_S):
                        await placement.drained()


async def main(stop: asyncio.Event) -> None:
    """Serves health from the first moment, and places until `stop` is set."""
    settings = Settings()  # type: ignore[call-arg]  # the environment gives them
    health = serve.Health("stead.scheduler")
    meters = Meters("scheduler")
    async with serve.admin_server(settings.admin_listen, health, meters):
        await serve.run_until(stop, schedule(settings, health, meters))


if __name__ == "__main__":
    serve.run("scheduler", main)
