"""The admin of a simulated cloud: fences hosts whose machines are really off, evacuates what they
held, removes some, and brings the machines back; and takes hosts out of service for a while. An
admin never lies, but this one asks now and then for what would be wrong, and must be refused.
"""

from __future__ import annotations

import asyncio

from stead.v1 import host_pb2, instance_pb2

from services.api.flows.ports import Row
from services.domain.errors import CloudError
from services.domain.kinds import ResourceKind
from tests.checkers.history import Ending
from tests.simulation.clients import Client, Work, caller_of
from tests.simulation.world import World

State = host_pb2.HostState
LOOK_S = 8.0
# Whoever has waited so long for a host to be called DOWN repairs it instead.
PATIENCE_S = 240.0


class Admin(Client):
    """Looks after machines that are off; `finish` until none is."""

    def __init__(self, world: World, work: Work) -> None:
        super().__init__(world, work, "admin", caller_of("cloud", admin=True))
        self._disabled: set[str] = set()

    async def live(self) -> None:
        """Until cancelled; what it has begun for a host it ends with `finish`."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / LOOK_S))
            await self._ask_for_wrong()
            await self._serve_otherwise()
            for host_id in sorted(self._world.lost):
                await self._attend(host_id)

    async def finish(self) -> None:
        """Brings every machine back, however long the cloud needs to notice that it is gone."""
        until_s = self._world.loop.time() + PATIENCE_S
        while self._world.lost and self._world.loop.time() < until_s:
            for host_id in sorted(self._world.lost):
                await self._attend(host_id)
            await asyncio.sleep(LOOK_S)
        for host_id in sorted(self._world.lost):
            self._world.find(host_id)
        for host_id in sorted(self._disabled):
            await self._enable(host_id)

    async def tend(self) -> None:
        """The same again and again, until cancelled."""
        while True:
            await self.finish()
            await asyncio.sleep(LOOK_S)

    async def _attend(self, host_id: str) -> None:
        found = await self._host(host_id)
        if found is None:
            return
        if found.deleted:
            # The answer to its removal was lost.
            self._world.machines[host_id].wipe()
            self._world.find(host_id)
            return
        host = host_pb2.Host.FromString(found.body)
        if host.state != State.HOST_STATE_DOWN:
            if self.rng.random() < 0.03:
                self._world.find(host_id)
            return
        if not host.HasField("fence"):
            await self.ask_for(
                host_pb2.FenceHostRequest(id=host_id, reason="its plug is in my hand"), host_id
            )
        for instance_id in self._held_by(host_id):
            await self.ask_for(instance_pb2.EvacuateInstanceRequest(id=instance_id), instance_id)
        luck = self.rng.random()
        if luck < 0.2:
            call = await self.ask_for(host_pb2.RemoveHostRequest(id=host_id), host_id)
            if call.reason or not call.resource_id:
                return
            self._world.machines[host_id].wipe()
        if luck < 0.5:
            self._world.find(host_id)

    async def _ask_for_wrong(self) -> None:
        """What would double a guest, if it were granted."""
        world, rng = self._world, self.rng
        alive = sorted(world.machines.keys() - world.lost)
        if rng.random() < 0.5 or not alive:
            return
        host_id = rng.choice(alive)
        held = self._held_by(host_id)
        if held:
            wish = instance_pb2.EvacuateInstanceRequest(id=rng.choice(held))
            await self.ask_for(wish, wish.id)

    async def _serve_otherwise(self) -> None:
        """Takes a host out of service, or puts one back."""
        luck = self.rng.random()
        if luck < 0.2:
            host_id = self.rng.choice(sorted(self._world.machines))
            self._disabled.add(host_id)
            await self.ask_for(host_pb2.DisableHostRequest(id=host_id, reason="new disks"), host_id)
        elif luck < 0.6 and self._disabled:
            await self._enable(self.rng.choice(sorted(self._disabled)))

    async def _enable(self, host_id: str) -> None:
        call = await self.ask_for(host_pb2.EnableHostRequest(id=host_id), host_id)
        if call.ending is not Ending.UNKNOWN:
            self._disabled.discard(host_id)

    def _held_by(self, host_id: str) -> list[str]:
        """Known to the harness, which spares the admin a list."""
        rows = self._world.store.rows.instances.values()
        return [row.id for row in rows if row.host_id == host_id and not row.deleted]

    async def _host(self, host_id: str) -> Row | None:
        try:
            return await self._world.ask(
                self.rng.choice(self._world.apis),
                lambda door: door.conductor.row_read(self.caller, ResourceKind.HOST, host_id),
            )
        except CloudError:
            return None
