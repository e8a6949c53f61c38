"""A lane: what arrives while a round is in flight goes together in the next one.

Owns batching, fairness between keys, bounds and who gets which answer. Does not know what a round
does. With one item waiting there is no added delay. Source: DESIGN rule 6, MECHANICS A4.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.domain.errors import NoCapacity

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]


class Lane(Generic[Item, Result]):
    """Sends items in rounds of at most `items_max`, one round in flight, taking keys round-robin.

    `send` gets the items of a round and answers one result each, in order; a result that is an
    exception is raised to that item's caller, an exception of `send` itself to all callers of the
    round.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        name: str,
        items_max: int = 256,
        waiting_max: int = 20_000,
    ) -> None:
        self._send = send
        self._name = name
        self._items_max = items_max
        self._waiting_max = waiting_max
        self._queues: OrderedDict[str, deque[_Waiting[Item, Result]]] = OrderedDict()
        self._waiting = 0
        self._wake = asyncio.Event()

    async def submit(self, item: Item, key: str = "") -> Result:
        """Waits for the item's result. Raises NoCapacity (LANE_FULL) at once when too many wait."""
        return await self.put(item, key)

    def put(self, item: Item, key: str = "") -> "asyncio.Future[Result]":
        """Queues the item and gives the future of its result; for callers that do not wait."""
        if self._waiting >= self._waiting_max:
            raise NoCapacity(
                "LANE_FULL",
                f"{self._name} has {self._waiting} requests waiting; try again later",
                metadata={"lane": self._name},
                retry_after_s=1.0,
            )
        waiting: _Waiting[Item, Result] = _Waiting(item, asyncio.get_running_loop().create_future())
        self._queues.setdefault(key, deque()).append(waiting)
        self._waiting += 1
        self._wake.set()
        return waiting.answer

    async def run(self) -> None:
        """Sends rounds until cancelled; what still waits then is cancelled too."""
        try:
            while True:
                await self._wake.wait()
                round_ = self._take()
                if round_:
                    await self._send_round(round_)
        finally:
            for queue in self._queues.values():
                for waiting in queue:
                    waiting.answer.cancel()

    def _take(self) -> list[_Waiting[Item, Result]]:
        taken: list[_Waiting[Item, Result]] = []
        while self._queues and len(taken) < self._items_max:
            key, queue = self._queues.popitem(last=False)
            waiting = queue.popleft()
            if queue:
                self._queues[key] = queue
            self._waiting -= 1
            if not waiting.answer.done():
                taken.append(waiting)
        if not self._queues:
            self._wake.clear()
        return taken

    async def _send_round(self, round_: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._send([waiting.item for waiting in round_])
        except asyncio.CancelledError:
            for waiting in round_:
                waiting.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # every failure of a round is its callers' to know
            results = [error] * len(round_)
        for waiting, result in zip(round_, results, strict=True):
            _settle(waiting.answer, result)


def _settle(answer: "asyncio.Future[Result]", result: Result | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
        answer.exception()  # a caller that has gone must not make the loop complain
    else:
        answer.set_result(result)
