"""What becomes of decisions that cannot be committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest
from stead.internal.v1 import scheduler_pb2
from structlog.testing import capture_logs

from services.conductor.edges.bus import NatsBus
from services.conductor.flows.decide import Decider, Decision
from services.conductor.flows.ports import CloudIdentity
from services.domain.errors import Broken, CloudError, NoCapacity, Unavailable
from services.runtime.bus import Bus

AWAY = Unavailable("DATABASE_UNAVAILABLE", "the database did not answer")
FULL = NoCapacity("LANE_FULL", "too much waits")
BATCH = scheduler_pb2.DecisionBatch(
    decisions=[scheduler_pb2.Decision(instance_id="i", attempt=1, host_id="h")]
).SerializeToString()


class _Link:
    """Keeps who receives, so that a test can say something to it."""

    receive: Callable[[bytes], Awaitable[None]]

    async def subscribe(
        self, subject: str, receive: Callable[[bytes], Awaitable[None]], queue: str = ""
    ) -> None:
        self.receive = receive


class _Decider:
    """Meets the given errors, one for each batch; then none."""

    def __init__(self, *errors: CloudError | None) -> None:
        self.errors = list(errors)
        self.took: list[Decision] = []

    async def decide(self, decisions: Sequence[Decision]) -> None:
        error = self.errors.pop(0)
        if error is not None:
            raise error
        self.took += decisions


async def _hear(decider: _Decider) -> int:
    """Says a batch for each error; how often a drop was logged."""
    link = _Link()
    bus = NatsBus(cast("Bus", link), CloudIdentity("c", "history"))
    await bus.subscribe_decisions(cast("Decider", decider))
    with capture_logs() as logs:
        while decider.errors:
            await link.receive(BATCH)
    return len([line for line in logs if line["event"] == "decisions dropped"])


async def test_decisions_are_dropped_while_the_database_is_away_and_it_is_said_once() -> None:
    """DATABASE_UNAVAILABLE, LANE_FULL: no error of the subscription's; the next batch counts."""
    decider = _Decider(AWAY, AWAY, FULL, FULL, None, AWAY)
    assert await _hear(decider) == 3
    assert [decision.instance_id for decision in decider.took] == ["i"]


async def test_a_broken_rule_is_not_dropped_in_silence() -> None:
    """A bug goes to the subscription, which logs it with its trace."""
    with pytest.raises(Broken):
        await _hear(_Decider(Broken("VIEW_MISSING", "a bug")))
