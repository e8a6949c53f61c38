"""Joins the conductor: settings, edges, flows, and serves until told to stop."""

import asyncio
import time
from contextlib import AsyncExitStack

import asyncpg
from stead.internal.v1 import conductor_pb2_grpc

from services.conductor.config import Settings
from services.conductor.edges.bus import NatsBus
from services.conductor.edges.servicer import ConductorServicer, Flows
from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.accept import Acceptor
from services.conductor.flows.advance import Advancer
from services.conductor.flows.commit import Committer
from services.conductor.flows.decide import Decider
from services.conductor.flows.greet import Greeter
from services.conductor.flows.lease import Leaser
from services.conductor.flows.observe import Observer
from services.conductor.flows.ports import CloudIdentity
from services.conductor.flows.read import Reader
from services.runtime import bus, ids, rpc
from services.runtime.log import logger
from services.runtime.serve import Health, admin_server, every, run, run_until

RECONCILE_EVERY_S = 0.25
HEARTBEAT_EVERY_S = 1.0
LEASES_EVERY_S = 5.0
DRAIN_S = 3.0
REACH_AGAIN_S = 0.5
NO_DATABASE = (OSError, TimeoutError, asyncpg.CannotConnectNowError)


class WallClock:
    """The time that rows are stamped with."""

    def now_s(self) -> float:
        """Seconds since 1970."""
        return time.time()


class NewIds:
    """Fresh identities."""

    def new_id(self) -> str:
        """A UUIDv7."""
        return ids.new_id()


async def _reach(settings: Settings, stop: asyncio.Event) -> tuple[CloudIdentity, bus.Bus] | None:
    # Alive and not ready until both are there; None when it is told to end before that.
    reaching = asyncio.create_task(_connect(settings))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([reaching, stopped], return_when=asyncio.FIRST_COMPLETED)
        return reaching.result() if reaching.done() else None
    finally:
        reaching.cancel()
        stopped.cancel()


async def _connect(settings: Settings) -> tuple[CloudIdentity, bus.Bus]:
    cloud = None
    while cloud is None:
        try:
            cloud = await migrate(settings.postgres_url, settings.cloud_id)
        except NO_DATABASE as error:
            logger().warning("no database yet", error=repr(error))
            await asyncio.sleep(REACH_AGAIN_S)
    return cloud, await bus.connect(
        settings.nats_url, name="conductor", credential=settings.nats_credential()
    )


async def main(stop: asyncio.Event) -> None:
    """Serves until `stop` is set."""
    settings = Settings()  # type: ignore[call-arg]  # filled from the environment
    health = Health("stead.conductor")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.admin_listen, health))
        found = await _reach(settings, stop)
        if found is None:
            return
        cloud, connection = found
        stack.push_async_callback(connection.close)
        store = PostgresStore(settings.postgres_url)
        stack.push_async_callback(store.close)
        clock = WallClock()
        nats = NatsBus(connection, cloud)
        committer = Committer(store, nats)
        advancer = Advancer(store, nats, committer, clock)
        acceptor = Acceptor(
            store=store, committer=committer, advancer=advancer, clock=clock, ids=NewIds()
        )
        observer = Observer(store, committer, advancer, clock)
        leaser = Leaser(store, committer, clock)
        reader = Reader(store)
        flows = Flows(acceptor, reader, observer, Greeter(store, committer, clock), leaser)
        servicer = ConductorServicer(flows, store, cloud)
        server = rpc.server()
        conductor_pb2_grpc.add_ConductorServiceServicer_to_server(servicer, server)
        server.add_insecure_port(settings.listen)
        await nats.subscribe_decisions(Decider(committer, advancer, clock))
        await server.start()
        stack.push_async_callback(server.stop, 0)
        await health.set_ready(True)
        ended = asyncio.Event()

        async def serve() -> None:
            # What was taken is answered before the lanes end.
            await stop.wait()
            await health.set_ready(False)
            await server.stop(DRAIN_S)
            ended.set()

        await run_until(
            ended,
            serve(),
            committer.run(),
            advancer.run(),
            acceptor.run(),
            observer.run(),
            reader.run(),
            every(RECONCILE_EVERY_S, advancer.reconcile),
            every(HEARTBEAT_EVERY_S, committer.heartbeat),
            every(LEASES_EVERY_S, leaser.compare),
        )


if __name__ == "__main__":
    run("conductor", main)
