"""Brings instances one step further: look at the situation, do the next step, look again later.

Owns the only way in which schedulers and hosts are told anything. The reconciler, an acceptance and
a decision all come here with an instance id, so that recovery is the same code as the first run.
Who has just committed a situation brings it along and spares a look: what is done with it is either
harmless when late (asking for a host) or committed with its version, which then refuses it.
"""

import asyncio
import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import Bus, Clock, Store
from services.conductor.logic import lifecycle
from services.conductor.logic.rows import Committed, Situation
from services.conductor.logic.steps import Command, LetGo, Place, next_step
from services.domain.errors import NoCapacity
from services.runtime.lane import Lane
from services.runtime.log import logger

KNOWN_MAX = 10_000


class Advancer:
    """Takes instance ids, sends what their situations ask for, many in one message."""

    def __init__(self, store: Store, bus: Bus, committer: Committer, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._committer = committer
        self._clock = clock
        self._known: OrderedDict[str, Situation] = OrderedDict()
        self._placing: OrderedDict[str, Situation] = OrderedDict()
        self._lane: Lane[str, None] = Lane(self._round, name="advances", waiting_max=200_000)

    def nudge(self, instance_id: str, known: Situation | None = None) -> None:
        """Looks at the instance soon, or takes what is known of it from this moment's commit. A
        nudge that is lost is made up for by the reconciler.
        """
        self._known.pop(instance_id, None)
        if known is not None:
            _keep(self._known, known)
        with contextlib.suppress(NoCapacity):
            self._lane.put(instance_id)

    async def placed(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        """The situations in which hosts were asked for, each given once; else as they are now."""
        return await self._situations(instance_ids, self._placing)

    async def run(self) -> None:
        """Runs the lane until cancelled."""
        await self._lane.run()

    async def reconcile(self) -> None:
        """Nudges every operation whose time to be looked at has come."""
        for due in await self._store.operations_take(500):
            self.nudge(due.instance_id)

    async def _round(self, instance_ids: Sequence[str]) -> list[None | Exception]:
        situations = await self._situations(instance_ids, self._known)
        places: list[Place] = []
        commands: dict[tuple[str, int], list[Command]] = defaultdict(list)
        lost: list[Situation] = []
        for situation in situations.values():
            step = next_step(situation)
            if isinstance(step, Place):
                places.append(step)
                _keep(self._placing, situation)
            elif isinstance(step, Command):
                host = (step.claim.host_id, step.claim.host_incarnation)
                commands[host].append(step)
            elif isinstance(step, LetGo):
                lost.append(step.situation)
        if places:
            # The commit beside which these were read, whoever made it: a refusal has to know it.
            head = max(situation.head_revision for situation in situations.values())
            await self._bus.place(places, head)
        for (host_id, incarnation), told in commands.items():
            await self._bus.command(host_id, incarnation, told)
        await asyncio.gather(*(self._let_go(situation) for situation in lost))
        return [None] * len(instance_ids)

    async def _situations(
        self, instance_ids: Sequence[str], known: OrderedDict[str, Situation]
    ) -> dict[str, Situation]:
        ids = list(dict.fromkeys(instance_ids))
        found = {id_: known.pop(id_) for id_ in ids if id_ in known}
        unknown = [id_ for id_ in ids if id_ not in found]
        return found | (await self._store.situations_read(unknown) if unknown else {})

    async def _let_go(self, situation: Situation) -> None:
        item = lifecycle.deleted_on_lost_host(situation, self._clock.now_s())
        if item is None:
            return
        outcome = await self._committer.commit(item, situation.instance.project_id)
        if isinstance(outcome, Committed):
            assert situation.operation is not None
            logger().warning(
                "deleted while its host is down",
                instance=situation.instance.id,
                correlation_id=situation.operation.trace.correlation_id,
            )


def _keep(known: OrderedDict[str, Situation], situation: Situation) -> None:
    known[situation.instance.id] = situation
    if len(known) > KNOWN_MAX:
        known.popitem(last=False)
