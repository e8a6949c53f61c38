"""Remembers the situations that this conductor has committed or read, so that what it knows is not
read again.

Nothing here is sure to be true still: another conductor may have been there, or a host may have
greeted there. Whoever uses it either commits with the versions in it, and a refusal drops it, or
sends what is harmless when late; the reconciler always reads.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from services.conductor.logic.items import Committed, Item, Outcome
from services.conductor.logic.known import instance_of, settled
from services.conductor.logic.rows import Situation
from services.conductor.logic.weight import weight_of_instance
from services.domain.kinds import HostState

SITUATIONS_MAX = 10_000
# Heavier ones, by what their owners may write into them, are read when they are needed.
WEIGHT_MAX = 8 * 1024


class Memory:
    """The newest known situation of each of the instances that were last touched."""

    def __init__(self, situations_max: int = SITUATIONS_MAX) -> None:
        self._max = situations_max
        self._known: OrderedDict[str, Situation] = OrderedDict()
        self._incarnations: dict[str, int] = {}

    def get(self, instance_id: str) -> Situation | None:
        """What is known of the instance. Nothing where a host of its claims has greeted since: an
        agent that is no longer the host's must not be told what is wanted now (MECHANICS D2).
        """
        known = self._known.get(instance_id)
        if known is None or not self._is_outdated(known):
            return known
        self.drop(instance_id)
        return None

    def hear(self, host_id: str, incarnation: int) -> None:
        """Takes note that the host runs under this incarnation."""
        if incarnation > self._incarnations.get(host_id, 0):
            self._incarnations[host_id] = incarnation

    def keep(self, situations: Iterable[Situation]) -> None:
        """Takes in what was read; what was committed after that read stays."""
        for situation in situations:
            known = self._known.get(situation.instance.id)
            if known is None or known.head_revision <= situation.head_revision:
                self._put(situation)

    def drop(self, instance_id: str) -> None:
        """Forgets the instance."""
        self._known.pop(instance_id, None)

    def learn(self, items: Sequence[Item], outcomes: Sequence[Outcome], head_revision: int) -> None:
        """Takes in what came of a commit that ended at `head_revision`."""
        for item, outcome in zip(items, outcomes, strict=True):
            if item.host is not None and isinstance(outcome, Committed):
                self.hear(item.host.id, item.host.incarnation)
            instance_id = instance_of(item)
            if not instance_id:
                continue
            after = None
            if isinstance(outcome, Committed):
                after = settled(self.get(instance_id), item, outcome, head_revision)
            if after is None:
                self.drop(instance_id)
            else:
                self._put(after)

    def _is_outdated(self, situation: Situation) -> bool:
        newest = self._incarnations
        return any(c.host_incarnation < newest.get(c.host_id, 0) for c in situation.claims)

    def _put(self, situation: Situation) -> None:
        instance = situation.instance
        self._known.pop(instance.id, None)
        if instance.deleted or weight_of_instance(instance) > WEIGHT_MAX:
            return
        # Nothing is given up because a host was DOWN some time ago.
        if any(claim.host_state is not HostState.UP for claim in situation.claims):
            return
        self._known[instance.id] = situation
        if len(self._known) > self._max:
            self._known.popitem(last=False)
