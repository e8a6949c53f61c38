"""Brings instances one step further: look at the situation, do the next step, look again later.

Owns the only way in which schedulers and hosts are told anything. The reconciler, an acceptance and
a decision all come here with an instance id, so that recovery is the same code as the first run.
What this conductor knows from its own commits is not looked at again: what is done with it is
either harmless when late (asking for a host, telling one) or committed with its version, which then
refuses it. Only the reconciler always looks, so that what was wrong is put right at its pace.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import Bus, Clock, Store
from services.conductor.logic import evacuation, lifecycle, overdue
from services.conductor.logic.items import Committed
from services.conductor.logic.rows import Situation
from services.conductor.logic.steps import (
    Command,
    GiveUp,
    LetGo,
    MoveOn,
    Place,
    leaves_work,
    next_step,
)
from services.domain.errors import NoCapacity
from services.runtime.lane import Lane
from services.runtime.log import logger

# Between two looks at what is due.
RECONCILE_EVERY_S = 0.25


class Advancer:
    """Takes instance ids, sends what their situations ask for, many in one message."""

    def __init__(self, store: Store, bus: Bus, committer: Committer, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._committer = committer
        self._clock = clock
        self._memory = committer.memory
        self._lane: Lane[str, None] = Lane(self._round, name="advances", waiting_max=50_000)

    def nudge(self, instance_id: str) -> None:
        """Takes the instance's next step soon. A nudge that is lost is made up for by the
        reconciler.
        """
        with contextlib.suppress(NoCapacity):
            self._lane.put(instance_id)

    async def situations(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        """The situations as they are known, else as they are now; unknown ids are left out."""
        found: dict[str, Situation] = {}
        unknown: list[str] = []
        for id_ in dict.fromkeys(instance_ids):
            known = self._memory.get(id_)
            if known is None:
                unknown.append(id_)
            else:
                found[id_] = known
        if unknown:
            read = await self._store.situations_read(unknown)
            self._memory.keep(read.values())
            found |= read
        return found

    async def situations_now(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        """The situations as they are now."""
        for id_ in instance_ids:
            self._memory.drop(id_)
        return await self.situations(instance_ids)

    async def run(self) -> None:
        """Runs the lane until cancelled."""
        await self._lane.run()

    async def reconcile(self) -> None:
        """Nudges every operation whose time to be looked at comes before this is called again."""
        for due in await self._store.operations_take(500, RECONCILE_EVERY_S):
            self._memory.drop(due.instance_id)
            self.nudge(due.instance_id)

    async def _round(self, instance_ids: Sequence[str]) -> list[None | Exception]:
        situations = await self.situations(instance_ids)
        places: list[Place] = []
        commands: dict[tuple[str, int], list[Command]] = defaultdict(list)
        ends: list[LetGo | MoveOn | GiveUp] = []
        for situation in situations.values():
            step = next_step(situation)
            if isinstance(step, Place):
                places.append(step)
            elif isinstance(step, Command):
                host = (step.claim.host_id, step.claim.host_incarnation)
                commands[host].append(step)
            elif isinstance(step, LetGo | MoveOn | GiveUp):
                ends.append(step)
        # First, since it needs no bus: with that gone for good a deadline still ends what waits.
        for end in await asyncio.gather(*map(self._end, ends), return_exceptions=True):
            if isinstance(end, Exception):
                logger().warning("not ended, tried again at its next look", error=repr(end))
        if places:
            # The commit beside which these were read, whoever made it: a refusal has to know it.
            head = max(situation.head_revision for situation in situations.values())
            await self._bus.place(places, head)
        for (host_id, incarnation), told in commands.items():
            await self._bus.command(host_id, incarnation, told)
        return [None] * len(instance_ids)

    async def _end(self, step: LetGo | MoveOn | GiveUp) -> None:
        situation, now_s = step.situation, self._clock.now_s()
        if isinstance(step, LetGo):
            gone = lifecycle.deleted_on_lost_host(situation, now_s)
            item, event = gone or overdue.given_up(situation, now_s), "let go"
        elif isinstance(step, MoveOn):
            item, event = evacuation.moved_on(situation, now_s), "its host is fenced: placed again"
        else:
            item, event = overdue.given_up(situation, now_s), "given up at the deadline"
        if item is None:
            return
        outcome = await self._committer.commit(item, situation.instance.project_id)
        if not isinstance(outcome, Committed):
            return
        assert situation.operation is not None
        logger().warning(
            event,
            instance=situation.instance.id,
            operation=situation.operation.id,
            action=situation.operation.action.name,
            phase=situation.operation.phase.name,
            correlation_id=situation.operation.trace.correlation_id,
        )
        if leaves_work(item):
            self.nudge(situation.instance.id)
