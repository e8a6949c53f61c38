"""Looks at instances: who looks at one moment looks in one go."""

from collections.abc import Sequence

from services.conductor.flows.ports import Store
from services.conductor.flows.remember import Memory
from services.conductor.logic.rows import Situation
from services.runtime.lane import Lane


class Looker:
    """Reads situations for who asks for one at a time; `memory` takes in what was read."""

    def __init__(self, store: Store, memory: Memory) -> None:
        self._store = store
        self._memory = memory
        self._lane: Lane[str, Situation | None] = Lane(self._round, name="situations")

    async def run(self) -> None:
        """Runs the lane until cancelled."""
        await self._lane.run()

    async def look(self, instance_id: str, *, time_left_s: float | None = None) -> Situation | None:
        """The instance's situation now; None if there is no such instance. Raises Unavailable
        (DEADLINE_PASSED) where the time passes before the look is begun.
        """
        return await self._lane.submit(instance_id, time_left_s=time_left_s)

    async def _round(self, ids: Sequence[str]) -> list[Situation | None | Exception]:
        found = await self._store.situations_read(list(dict.fromkeys(ids)))
        self._memory.keep(found.values())
        return [found.get(id_) for id_ in ids]
