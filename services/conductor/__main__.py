"""Joins the conductor: settings, edges, flows, and serves until told to stop."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from stead.internal.v1 import conductor_pb2_grpc

from services.conductor.config import Settings
from services.conductor.edges.audit_servicer import AuditFlows, AuditingServicer
from services.conductor.edges.bodies import MessageBodies
from services.conductor.edges.bus import NatsBus
from services.conductor.edges.fence_program import FenceProgram
from services.conductor.edges.figures import add_figures, add_host_figures
from services.conductor.edges.servicer import Flows
from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.edges.store.trouble import NOT_THERE_YET
from services.conductor.edges.wishes import Acceptors
from services.conductor.flows.accept import Acceptance
from services.conductor.flows.accept_cancel import CancelAcceptor
from services.conductor.flows.accept_catalog import CatalogAcceptor
from services.conductor.flows.accept_evacuate import EvacuationAcceptor
from services.conductor.flows.accept_guest import GuestAcceptor
from services.conductor.flows.accept_host import HostAcceptor
from services.conductor.flows.accept_instance import InstanceAcceptor
from services.conductor.flows.accept_power import PowerAcceptor
from services.conductor.flows.accept_project import ProjectAcceptor
from services.conductor.flows.advance import RECONCILE_EVERY_S, Advancer
from services.conductor.flows.answer import Answerer
from services.conductor.flows.audit import Auditor
from services.conductor.flows.audit_ports import AuditReads
from services.conductor.flows.commit import Committer
from services.conductor.flows.decide import Decider
from services.conductor.flows.fence import Fencer
from services.conductor.flows.greet import Greeter
from services.conductor.flows.inventory import Inventorist
from services.conductor.flows.lease import Leaser
from services.conductor.flows.observe import Observer
from services.conductor.flows.ports import Bus, Clock, CloudIdentity, FenceDriver, Ids, Store
from services.conductor.flows.read import Reader
from services.conductor.flows.sweep import Sweeper
from services.domain.kinds import HostState
from services.runtime import bus, rpc
from services.runtime.ids import new_id
from services.runtime.log import logger
from services.runtime.metrics import Meters
from services.runtime.serve import Health, admin_server, every, run, run_until

LEASES_EVERY_S = 5.0
TEND_EVERY_S = 10.0
SWEEP_EVERY_S = 60.0
DRAIN_S = 3.0
REACH_AGAIN_S = 0.5


class WallClock:
    """The time that rows are stamped with."""

    def now_s(self) -> float:
        """Seconds since 1970."""
        return time.time()


class NewIds:
    """Fresh identities."""

    def new_id(self) -> str:
        """A UUIDv7."""
        return new_id()


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
        except NOT_THERE_YET as error:
            logger().warning("no database yet", error=repr(error))
            await asyncio.sleep(REACH_AGAIN_S)
    return cloud, await bus.connect(
        settings.nats_url, name="conductor", credential=settings.nats_credential()
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """One conductor, joined: what it answers with, what it has ended (see Committer), and what runs
    for as long as it lives.
    """

    flows: Flows
    decider: Decider
    ended: Mapping[tuple[str, ...], int]
    host_states: Callable[[], Mapping[HostState, int]]
    forever: tuple[Callable[[], Coroutine[Any, Any, None]], ...]


def _acceptors(
    settings: Settings,
    acceptance: Acceptance,
    advancer: Advancer,
    *,
    bodies: MessageBodies,
    audits: AuditReads,
) -> Acceptors:
    return Acceptors(
        instances=InstanceAcceptor(acceptance, advancer),
        power=PowerAcceptor(acceptance, advancer),
        catalog=CatalogAcceptor(acceptance),
        projects=ProjectAcceptor(acceptance, settings.usual_limits()),
        hosts=HostAcceptor(acceptance, lease_s=settings.lease_s),
        guests=GuestAcceptor(acceptance, audits),
        evacuations=EvacuationAcceptor(acceptance, advancer),
        cancels=CancelAcceptor(acceptance, bodies),
    )


def join(  # noqa: PLR0913  # all that a conductor is joined over
    settings: Settings,
    store: Store,
    nats: Bus,
    *,
    audits: AuditReads,
    clock: Clock,
    ids: Ids,
    fences: FenceDriver | None,
) -> Parts:
    """The parts of one conductor over its store and its ways out."""
    usual, bodies = settings.usual_limits(), MessageBodies()
    committer = Committer(store, nats, settings.deadlines(), paces=settings.paces())
    advancer = Advancer(store, nats, committer, clock)
    acceptance = Acceptance(
        store=store,
        committer=committer,
        clock=clock,
        ids=ids,
        answers=Answerer(store, bodies, usual),
    )
    acceptors = _acceptors(settings, acceptance, advancer, bodies=bodies, audits=audits)
    observer = Observer(store, committer, advancer, clock)
    leaser = Leaser(store, committer, clock, lease_s=settings.lease_s)
    reader = Reader(store, bodies, usual)
    greeter = Greeter(store, committer, clock, lease_s=settings.lease_s)
    fencing = []
    if fences is not None:
        fencer = Fencer(store, committer, clock, fences, lease_s=settings.lease_s)
        fencing = [lambda: every(LEASES_EVERY_S, fencer.fence_all)]
    sweeper = Sweeper(store, settings.request_keep_s)

    async def tend() -> None:
        await store.log_tend(settings.log_keep_s, settings.log_bytes_max)

    async def sweep() -> None:
        await sweeper.sweep()

    return Parts(
        flows=Flows(acceptors, reader, observer, greeter, leaser),
        decider=Decider(committer, advancer, clock),
        ended=committer.ended,
        host_states=leaser.states_now,
        forever=(
            committer.run,
            advancer.run,
            acceptance.run,
            observer.run,
            reader.run,
            lambda: every(RECONCILE_EVERY_S, advancer.reconcile),
            lambda: every(settings.head_every_s, committer.heartbeat),
            lambda: every(min(LEASES_EVERY_S, settings.lease_s / 6), leaser.compare),
            *fencing,
            lambda: every(TEND_EVERY_S, tend),
            lambda: every(SWEEP_EVERY_S, sweep),
        ),
    )


def _fences(settings: Settings) -> FenceDriver | None:
    if not settings.fence_program:
        return None
    return FenceProgram(settings.fence_program, settings.fence_timeout_s)


async def main(stop: asyncio.Event) -> None:
    """Serves until `stop` is set."""
    settings = Settings()  # type: ignore[call-arg]  # filled from the environment
    health, meters = Health("stead.conductor"), Meters("conductor")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(settings.admin_listen, health, meters))
        found = await _reach(settings, stop)
        if found is None:
            return
        cloud, connection = found
        stack.push_async_callback(connection.close)
        # In another history nothing that this conductor remembers is true: it ends, another begins.
        store = PostgresStore(
            settings.postgres_url,
            usual_limits=settings.usual_limits(),
            lease_s=settings.lease_s,
            paces=settings.paces(),
            history_id=cloud.history_id,
            on_history=stop.set,
        )
        stack.push_async_callback(store.close)
        nats = NatsBus(connection, cloud)
        audits = store.audits
        parts = join(
            settings, store, nats, audits=audits, clock=WallClock(), ids=NewIds(),
            fences=_fences(settings),
        )  # fmt: skip
        add_figures(meters, store.operations_count, parts.ended)
        add_host_figures(meters, parts.host_states)
        inventorist = Inventorist(audits, nats)
        auditing = AuditFlows(inventorist, Auditor(audits, inventorist))
        servicer = AuditingServicer(parts.flows, store, cloud, auditing)
        server = rpc.server()
        conductor_pb2_grpc.add_ConductorServiceServicer_to_server(servicer, server)
        server.add_insecure_port(settings.listen)
        refuse_decisions = await nats.subscribe_decisions(parts.decider)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        await health.set_ready(True)
        ended = asyncio.Event()

        async def serve() -> None:
            # What was taken is answered before the lanes end.
            await stop.wait()
            await health.set_ready(False)
            await refuse_decisions()
            servicer.close()
            await server.stop(DRAIN_S)
            ended.set()

        await run_until(ended, serve(), *(run_part() for run_part in parts.forever))


if __name__ == "__main__":
    run("conductor", main)
