"""The hands: joins the parts of compute and runs the agents of this process. Guests outlive it."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from services.compute.config import Settings
from services.compute.edges import figures, host_facts
from services.compute.edges.attachments import GrpcAttachments
from services.compute.edges.commands import Listener, listen
from services.compute.edges.drivers import fake
from services.compute.edges.image_cache import ImageCache
from services.compute.edges.ingress import GrpcBlobs, GrpcIngress
from services.compute.edges.replicas import Door, Replicas
from services.compute.flows.agent import Agent
from services.compute.flows.answer_question import answer_question, refuse_question
from services.compute.flows.attach_console import Consoles
from services.compute.flows.fetch_image import ImageFetcher
from services.compute.flows.live import live
from services.compute.flows.ports import Driver, HostProfile, Ingress
from services.compute.flows.reconcile import Tools
from services.runtime import bus, serve
from services.runtime.metrics import Meters

REST_S = 3.0
# A host's bus counts as silent after two beats; several of its own words are lost by then.
ECHOES_PER_BEAT = 4


async def open_drivers(settings: Settings) -> Mapping[str, Driver]:
    """The driver of each host of this process."""
    if settings.driver == "fake":
        return fake.open_fleet(
            settings.state_dir / "fake",
            settings.host_ids(),
            cloud_id=settings.cloud_id,
            capacity=settings.fake_capacity(),
            faults=fake.Faults(settings.fake_delay_s, settings.fake_fail_every),
        )
    # Only here: a machine of fake hosts needs no libvirt.
    from services.compute.edges.drivers.libvirt.driver import make_driver

    driver = await make_driver(
        settings.driver,
        cloud_id=settings.cloud_id,
        state_dir=settings.state_dir,
        uri=settings.libvirt_uri,
    )
    return {settings.host_id: driver}


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Runs every agent until `stop` is set or all of them are superseded."""
    health, meters = serve.Health("stead.compute"), Meters("compute")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve.admin_server(settings.admin_listen, health, meters))
        replicas = Replicas(settings.api_targets())
        stack.push_async_callback(replicas.close)
        attachments = GrpcAttachments(replicas)
        images = ImageFetcher(ImageCache(settings.state_dir / "cache"))
        kept_boot_id = host_facts.boot_id() if settings.start_without_view else ""
        agents: list[Agent] = []
        listeners: list[Listener] = []
        for host_id, driver in (await open_drivers(settings)).items():
            stack.push_async_callback(driver.close)
            door = Door(replicas, host_id)
            blobs = GrpcBlobs(door, host_id)
            tools = Tools(driver, images, blobs, settings.steps_max, boot_id=kept_boot_id)
            agent = make_agent(settings, host_id, tools=tools, ingress=GrpcIngress(door))
            consoles = Consoles(driver, agent.reconciler.look)
            answer = partial(answer_question, consoles=consoles, attachments=attachments)
            refuse = partial(refuse_question, attachments=attachments)
            agents.append(agent)
            listeners.append(
                Listener(host_id, agent.hear_echo, agent.receive_command, answer, refuse)
            )
        figures.add_gauges(meters, agents)
        rested = asyncio.Event()
        await serve.run_until(
            rested,
            _rest(stop, rested, health, agents),
            listen(
                partial(connect_bus, settings),
                settings.cloud_id,
                listeners,
                echo_s=settings.beat_s / ECHOES_PER_BEAT,
            ),
            live(agents, on_ready=partial(health.set_ready, True), on_end=stop.set),
        )


async def _rest(
    stop: asyncio.Event, rested: asyncio.Event, health: serve.Health, agents: Sequence[Agent]
) -> None:
    # A step that is cut off is taken up again by the next agent; one that ends need not be.
    await stop.wait()
    await health.set_ready(False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REST_S):
            await asyncio.gather(*(agent.reconciler.rest() for agent in agents))
    rested.set()


async def connect_bus(settings: Settings) -> bus.Bus:
    """The bus, once it is there."""
    return await bus.connect(
        settings.nats_url,
        name=f"compute {settings.host_id}",
        credential=settings.nats_credential(),
    )


def make_agent(settings: Settings, host_id: str, *, tools: Tools, ingress: Ingress) -> Agent:
    """The agent of one host, and what it says of the machine."""
    profile = HostProfile(
        host_id=host_id,
        machine_id=host_facts.machine_id(settings.state_dir),
        boot_id=host_facts.boot_id(),
        agent_version=host_facts.agent_version(),
        reserved=settings.reserved(),
        overcommit=settings.overcommit(),
    )
    return Agent(
        profile,
        tools,
        cloud_id=settings.cloud_id,
        ingress=ingress,
        reconnect_s_max=settings.reconnect_s_max(),
        beat_s=settings.beat_s,
    )


def main() -> None:
    """Locks the state folder and the host's name, then runs."""
    settings = Settings()  # type: ignore[call-arg]  # read from the environment
    try:
        locks = (
            host_facts.lock_state_dir(settings.state_dir),
            host_facts.lock_host_id(settings.cloud_id, settings.host_id),
        )
    except host_facts.AgentAlreadyRunsError as error:
        sys.exit(f"compute: {error}")
    serve.run("compute", partial(run, settings))
    del locks


if __name__ == "__main__":
    main()
