"""An admin of a simulated cloud who keeps projects, their limits and flavors, at moments of the
seed. Judges nothing: the checkers do, by the log's limits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf import field_mask_pb2
from stead.v1 import flavor_pb2, project_pb2, quota_pb2

from tests.checkers.history import Ending
from tests.simulation.clients import Client, Work, caller_of
from tests.simulation.world import World

LOOK_S = 8.0
PROJECTS = ("p", "q", "spare")


class Steward(Client):
    """Owns the flavors that it made."""

    def __init__(self, world: World, work: Work) -> None:
        super().__init__(world, work, "steward", caller_of("cloud", admin=True))
        self._flavors: list[str] = []
        self._serial = 0

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / LOOK_S))
            if self.rng.random() < 0.3:
                await self._change_flavors()
            else:
                wish = self._wish()
                named = "project_id" if isinstance(wish, quota_pb2.UpdateQuotaRequest) else "id"
                await self.ask_for(wish, getattr(wish, named))

    def _wish(self) -> Any:
        rng, id_ = self.rng, self.rng.choice(PROJECTS)
        self._serial += 1
        words = f"words {self._serial}"
        luck = rng.random()
        if luck < 0.4:
            return quota_pb2.UpdateQuotaRequest(
                project_id=id_,
                limits=quota_pb2.QuotaAmounts(instances=rng.choice([-1, 8, 20, 40])),
                update_mask=field_mask_pb2.FieldMask(paths=["instances"]),
            )
        if luck < 0.6:
            return project_pb2.CreateProjectRequest(id=id_, display_name=words)
        if luck < 0.8:
            mask = field_mask_pb2.FieldMask(paths=["display_name"])
            return project_pb2.UpdateProjectRequest(id=id_, display_name=words, update_mask=mask)
        return project_pb2.DeleteProjectRequest(id=id_)

    async def _change_flavors(self) -> None:
        self._serial += 1
        if self._flavors and self.rng.random() < 0.5:
            id_ = self._flavors.pop()
            await self.ask_for(flavor_pb2.DeleteFlavorRequest(id=id_), id_)
            return
        new = flavor_pb2.CreateFlavorRequest(
            name=f"size-{self._serial}", vcpus=1, memory_mib=64, disk_gib=1
        )
        call = await self.ask_for(new, "")
        if call.ending is Ending.OK:
            self._flavors.append(call.resource_id)
