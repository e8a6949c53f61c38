"""Place: all requests that arrived while the last round was under way, in one go.

Owns which requests wait, and when a refusal may be said. A refusal is the ledger's truth or it is
not said: it needs a fleet at or beyond the request's revision, and nothing may stand in the way but
what the ledger shows. Who cannot be refused yet is tried again when the fleet moves, for at most
HOLD_S; without a new enough fleet it is then dropped, and the conductor asks again. Does not
choose: logic does. Source: MECHANICS F1, F2.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.runtime.clock import Clock
from services.runtime.log import logger
from services.runtime.telemetry import traced
from services.scheduler.flows.ports import CaughtUp, Decisions
from services.scheduler.logic.choose import choose
from services.scheduler.logic.fleet import DEBIT_S, Fleet
from services.scheduler.logic.request import Outcome, Placed, Refused, Request
from services.scheduler.logic.weighers import Weights

ROUND_MAX = 2048
WAITING_MAX = 50_000
HOLD_S = DEBIT_S
LOOK_AGAIN_S = 0.1
DRAINED_LOOK_S = 0.01
LOGGED_TOGETHER = 64
REFUSED_LOGGED = 50


@dataclass(slots=True)
class _Waiting:
    request: Request
    until_s: float


class Placement:
    """The requests that wait, and the rounds that answer them."""

    def __init__(
        self, fleet: Fleet, feed: CaughtUp, decisions: Decisions, *, weights: Weights, clock: Clock
    ) -> None:
        self._fleet = fleet
        self._feed = feed
        self._decisions = decisions
        self._weights = weights
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._held: dict[str, _Waiting] = {}
        self._wake = asyncio.Event()
        self._revision_wanted = 0
        self._behind = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self._waiting) + len(self._held)

    def take(self, requests: Iterable[Request]) -> None:
        """Queues requests.

        Of one instance the newest attempt counts; too many are dropped and will be sent again.
        """
        until_s = self._clock.now_s() + HOLD_S
        for request in requests:
            known = self._waiting.get(request.instance_id) or self._held.get(request.instance_id)
            if known is not None and known.request.attempt >= request.attempt:
                continue
            if len(self._waiting) >= WAITING_MAX:
                logger().warning("too many requests wait, dropping", waiting=len(self._waiting))
                break
            self._held.pop(request.instance_id, None)
            self._waiting[request.instance_id] = _Waiting(request, until_s)
        self._wake.set()

    def fleet_advanced(self) -> None:
        """Looks again at who could not be refused yet."""
        if self._held:
            self._wake.set()

    async def drained(self) -> None:
        """Waits until every request has been in a round; who is held then is asked for again."""
        while self._waiting or self._wake.is_set():  # noqa: ASYNC110  # rounds tell nobody
            await asyncio.sleep(DRAINED_LOOK_S)

    async def run(self) -> None:
        """Answers in rounds until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._catch_up())
            while True:
                await self._wait()
                await self._place_round()

    async def _wait(self) -> None:
        if not self._waiting:
            # Who is held is looked at again without a change of the feed too: promises lapse.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S if self._held else None):
                    await self._wake.wait()
        self._wake.clear()
        self._waiting = self._held | self._waiting
        self._held = {}

    async def _place_round(self) -> None:
        taken = [self._waiting.pop(i) for i in list(self._waiting)[:ROUND_MAX]]
        now_s = self._clock.now_s()
        revision = self._fleet.revision
        outcomes = choose(
            self._fleet,
            [waiting.request for waiting in taken],
            weights=self._weights,
            now_s=now_s,
        )
        said: list[Outcome] = []
        for waiting, outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, Refused) and self._is_early(waiting, outcome):
                self._keep(waiting, now_s)
            else:
                said.append(outcome)
        if said:
            await self._decisions.publish(said, revision)
            _log(said, revision)

    def _is_early(self, waiting: _Waiting, refused: Refused) -> bool:
        """Whether this refusal may not be said yet."""
        if waiting.request.min_revision > self._fleet.revision:
            return True
        return refused.only_promised and self._clock.now_s() < waiting.until_s

    def _keep(self, waiting: _Waiting, now_s: float) -> None:
        """Holds a request for another try, or drops it when it was held long enough."""
        request = waiting.request
        if now_s < waiting.until_s:
            self._held[request.instance_id] = waiting
            if request.min_revision > self._fleet.revision:
                self._revision_wanted = max(self._revision_wanted, request.min_revision)
                self._behind.set()
            return
        with traced(request.trace):
            logger().warning(
                "request dropped: the fleet is too old to refuse it",
                instance_id=request.instance_id,
                min_revision=request.min_revision,
                fleet_revision=self._fleet.revision,
            )

    async def _catch_up(self) -> None:
        while True:
            await self._behind.wait()
            self._behind.clear()
            revision, self._revision_wanted = self._revision_wanted, 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._feed.wait_for(revision)
            self._wake.set()


def _log(said: Sequence[Outcome], revision: int) -> None:
    """A line per so many placed instances, not one for each: it stands on the way of all."""
    placed = [_line_of(outcome) for outcome in said if isinstance(outcome, Placed)]
    for first in range(0, len(placed), LOGGED_TOGETHER):
        some = placed[first : first + LOGGED_TOGETHER]
        logger().info("placed", count=len(some), fleet_revision=revision, instances=some)
    for outcome in [outcome for outcome in said if isinstance(outcome, Refused)][:REFUSED_LOGGED]:
        with traced(outcome.request.trace):
            logger().info(
                "no host fits",
                instance_id=outcome.request.instance_id,
                hosts=outcome.hosts,
                rejected={r.filter: r.hosts for r in outcome.rejections if r.hosts},
                fleet_revision=revision,
            )


def _line_of(placed: Placed) -> dict[str, str]:
    line = {"instance_id": placed.request.instance_id, "host_id": placed.host_id}
    trace = placed.request.trace
    if trace.correlation_id:
        line["correlation_id"] = trace.correlation_id
    if trace.traceparent:
        line["traceparent"] = trace.traceparent
    return line
