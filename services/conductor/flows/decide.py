"""Turns the schedulers' decisions into claims.

A decision counts only for the present attempt of an instance that waits for a host; the ledger has
the last word, and where it says no, the instance is placed again without a try being counted.
Source: MECHANICS F2.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.conductor.flows.advance import Advancer
from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import Clock
from services.conductor.flows.tell import tell_trouble
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Committed
from services.conductor.logic.rows import Situation
from services.domain.operation import Phase


@dataclass(frozen=True, slots=True)
class Decision:
    """A host for an instance, or with an empty `host_id` a refusal and how many of `hosts` each
    filter rejected.
    """

    instance_id: str
    attempt: int
    host_id: str
    hosts: int
    rejected: Mapping[str, int]


class Decider:
    """Takes decisions in batches."""

    def __init__(self, committer: Committer, advancer: Advancer, clock: Clock) -> None:
        self._committer = committer
        self._advancer = advancer
        self._clock = clock

    async def decide(self, decisions: Sequence[Decision]) -> None:
        """Commits what the batch decided."""
        situations = await self._advancer.situations([d.instance_id for d in decisions])
        # A later attempt than the one remembered: another conductor has asked for it.
        behind = [
            d.instance_id
            for d in decisions
            if d.instance_id in situations
            and d.attempt > situations[d.instance_id].instance.attempt
        ]
        if behind:
            situations |= await self._advancer.situations_now(behind)
        await asyncio.gather(
            *(
                self._decide_one(decision, situations[decision.instance_id])
                for decision in decisions
                if decision.instance_id in situations
            )
        )

    async def _decide_one(self, decision: Decision, situation: Situation) -> None:
        operation = situation.operation
        if operation is None or operation.phase is not Phase.PLACING:
            return
        if decision.attempt != situation.instance.attempt:
            return
        now_s = self._clock.now_s()
        if decision.host_id:
            item = lifecycle.claimed(situation, decision.host_id, now_s)
        else:
            item = lifecycle.refused(situation, decision.hosts, dict(decision.rejected), now_s)
        if item is None:
            return
        outcome = await self._committer.commit(item, situation.instance.project_id)
        if isinstance(outcome, Committed):
            tell_trouble(item)
        if decision.host_id or not isinstance(outcome, Committed):
            self._advancer.nudge(situation.instance.id)
