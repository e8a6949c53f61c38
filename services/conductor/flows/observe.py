"""Applies what hosts saw: each observation once, in the order of its claim, never from an older
incarnation.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from services.conductor.flows.advance import Advancer
from services.conductor.flows.commit import Committer
from services.conductor.flows.look import Looker
from services.conductor.flows.ports import Clock, Store
from services.conductor.flows.tell import tell_trouble
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Committed, Item, Refusal
from services.conductor.logic.observation import Seen, unclaimed
from services.conductor.logic.steps import leaves_work
from services.domain.errors import Unavailable
from services.domain.ids import is_row_id
from services.domain.observation import ObservationOutcome

TRIES_MAX = 8


_REFUSED = {
    Refusal.DUPLICATE: ObservationOutcome.DUPLICATE,
    Refusal.NO_CLAIM: ObservationOutcome.NO_SUCH_CLAIM,
    Refusal.SUPERSEDED: ObservationOutcome.SUPERSEDED,
}


class Observer:
    """Takes observations in batches; those of one claim are applied one after another."""

    def __init__(
        self, store: Store, committer: Committer, advancer: Advancer, clock: Clock
    ) -> None:
        self._committer = committer
        self._advancer = advancer
        self._clock = clock
        self._memory = committer.memory
        self._looker = Looker(store, committer.memory)

    async def run(self) -> None:
        """Runs the reading lane until cancelled."""
        await self._looker.run()

    async def observe(self, seen: Sequence[Seen]) -> list[ObservationOutcome]:
        """The outcome of each observation, in order. Raises Unavailable where nothing could be
        recorded.
        """
        by_claim: dict[tuple[str, int], list[int]] = defaultdict(list)
        for place, one in enumerate(seen):
            by_claim[one.instance_id, one.epoch].append(place)
        outcomes: list[ObservationOutcome] = [ObservationOutcome.APPLIED] * len(seen)

        async def observe_claim(places: list[int]) -> None:
            for place in sorted(places, key=lambda p: seen[p].sequence):
                outcomes[place] = await self._observe_one(seen[place])

        await asyncio.gather(*(observe_claim(places) for places in by_claim.values()))
        return outcomes

    async def _observe_one(self, seen: Seen) -> ObservationOutcome:
        self._memory.hear(seen.host_id, seen.incarnation)
        for _ in range(TRIES_MAX):
            decided = self._decided(seen) or await self._looked_at(seen)
            if decided is None:
                return ObservationOutcome.NO_SUCH_CLAIM
            item, project_id = decided
            outcome = await self._committer.commit(item, project_id)
            if isinstance(outcome, Committed):
                tell_trouble(item)
                if item.instance is not None and leaves_work(item):
                    self._advancer.nudge(seen.instance_id)
                return ObservationOutcome.APPLIED
            if outcome.refusal in _REFUSED:
                return _REFUSED[outcome.refusal]
        raise Unavailable("ROW_CONTENDED", "the instance changes too fast; observe again")

    def _decided(self, seen: Seen) -> tuple[Item, str] | None:
        """The item by what is known, and its project; None where that must not decide: an item
        without the instance's version would commit on a situation that is not true any more.
        """
        known = self._memory.get(seen.instance_id)
        if known is None:
            return None
        item = lifecycle.observed(known, seen, self._clock.now_s())
        return (item, known.instance.project_id) if item.instance is not None else None

    async def _looked_at(self, seen: Seen) -> tuple[Item, str] | None:
        """The item by the situation as it is now; None if there can be no such claim."""
        situation = await self._looker.look(seen.instance_id)
        if situation is None:
            # A condemned guest has a claim and needs no instance; the store knows whether it has.
            return (unclaimed(seen), "") if is_row_id(seen.instance_id) else None
        item = lifecycle.observed(situation, seen, self._clock.now_s())
        return item, situation.instance.project_id
