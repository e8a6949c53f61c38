"""The life of all agents of one process: ready when each has a view, over when none is left."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.compute.flows.agent import Agent, SupersededError
from services.runtime.log import logger


async def live(
    agents: Sequence[Agent],
    *,
    on_ready: Callable[[], Awaitable[None]],
    on_end: Callable[[], None],
) -> None:
    """Runs the agents until cancelled, or calls `on_end` when all are superseded; an agent's bug
    is raised.
    """
    async with asyncio.TaskGroup() as group:
        readiness = group.create_task(_tell_ready(agents, on_ready))
        lives = [group.create_task(_live(agent)) for agent in agents]
        await asyncio.wait(lives)
        readiness.cancel()
        on_end()


async def _tell_ready(agents: Sequence[Agent], on_ready: Callable[[], Awaitable[None]]) -> None:
    for agent in agents:
        await agent.viewed.wait()
    await on_ready()


async def _live(agent: Agent) -> None:
    try:
        await agent.run()
    except SupersededError:
        logger().error(
            "superseded: another agent of this host is live; ends, touching nothing",
            host=agent.host_id,
        )
