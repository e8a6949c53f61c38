"""The load: instances created and deleted by many callers at once, each ACTIVE or gone when a watch
says so, never by polling.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc
from stead.v1 import instance_pb2 as pb
from stead.v1 import instance_pb2_grpc

from services.runtime.ids import new_id

PATIENCE_S = 60.0
EVENTS_MAX = 256

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Life:
    """One wish: seconds to its answer, and to the state that it asked for."""

    id: str
    reply_s: float
    done_s: float


class Load:
    """One client of a cloud: a channel, a token, a watch."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.instances = instance_pb2_grpc.InstanceServiceStub(channel)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self._numbers = itertools.count()
        self._when: dict[tuple[str, int], asyncio.Future[float]] = defaultdict(
            asyncio.get_running_loop().create_future
        )

    async def watch(self, ready: asyncio.Event) -> None:
        """Notes when each instance got to each state, until cancelled."""
        asked = pb.WatchInstancesRequest(events_max=EVENTS_MAX)
        async for message in self.instances.WatchInstances(asked, metadata=self.metadata):
            now_s = time.perf_counter()
            for event in (message, *message.more):
                match event.WhichOneof("event"):
                    case "snapshot_done":
                        ready.set()
                    case "change":
                        instance = event.change.instance
                        when = self._when[instance.id, instance.state]
                        if not when.done():
                            when.set_result(now_s)

    async def create(self, flavor_id: str, image_id: str) -> Life:
        """One instance, until it is ACTIVE."""
        request = pb.CreateInstanceRequest(
            request_id=new_id(),
            name=f"bench-{next(self._numbers)}",
            flavor_id=flavor_id,
            image_id=image_id,
        )
        begun_s = time.perf_counter()
        answer = await self.instances.CreateInstance(
            request, metadata=self.metadata, timeout=PATIENCE_S
        )
        return await self._life(answer.instance.id, begun_s, pb.INSTANCE_STATE_ACTIVE)

    async def batch_create(self, flavor_id: str, image_id: str, count: int) -> list[Life]:
        """So many instances in one call, until all are ACTIVE."""
        wishes = [
            pb.NewInstance(
                name=f"bench-{next(self._numbers)}", flavor_id=flavor_id, image_id=image_id
            )
            for _ in range(count)
        ]
        request = pb.BatchCreateInstancesRequest(request_id=new_id(), instances=wishes)
        begun_s = time.perf_counter()
        answer = await self.instances.BatchCreateInstances(
            request, metadata=self.metadata, timeout=PATIENCE_S
        )
        return [
            await self._life(result.created.instance.id, begun_s, pb.INSTANCE_STATE_ACTIVE)
            for result in answer.results
        ]

    async def delete(self, instance_id: str) -> Life:
        """One instance, until it is DELETED."""
        request = pb.DeleteInstanceRequest(request_id=new_id(), id=instance_id)
        begun_s = time.perf_counter()
        await self.instances.DeleteInstance(request, metadata=self.metadata, timeout=PATIENCE_S)
        return await self._life(instance_id, begun_s, pb.INSTANCE_STATE_DELETED)

    async def _life(self, instance_id: str, begun_s: float, state: int) -> Life:
        replied_s = time.perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            done_s = await self._when[instance_id, state]
        del self._when[instance_id, state]
        return Life(instance_id, replied_s - begun_s, done_s - begun_s)


@asynccontextmanager
async def load(endpoint: str, token: str) -> AsyncIterator[Load]:
    """A client whose watch has begun."""
    async with grpc.aio.insecure_channel(endpoint) as channel:
        made, ready = Load(channel, token), asyncio.Event()
        watching = asyncio.create_task(made.watch(ready))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await ready.wait()
            yield made
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def in_turn(
    works: Sequence[Callable[[], Awaitable[Outcome]]], *, at_once: int, budget_s: float
) -> list[Outcome]:
    """What became of the works, `at_once` under way; none is begun after `budget_s`."""
    waiting, lives = iter(works), list[Outcome]()
    stop_s = time.perf_counter() + budget_s

    async def caller() -> None:
        for work in waiting:
            lives.append(await work())
            if time.perf_counter() > stop_s:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(caller())
    return lives
