"""A lane: what arrives while a round is in flight goes together in the next one.

Owns batching, priorities, fairness between keys, bounds, deadlines and who gets which answer. Does
not know what a round does. With one item waiting there is no added delay. Source: DESIGN rule 6,
MECHANICS A4.
"""

import asyncio
import time
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from services.domain.errors import NoCapacity, Unavailable
from services.runtime.tally import SECONDS, SIZES, Histogram

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many full rounds' worth of bytes may wait.
WAITING_ROUNDS = 64


@dataclass(frozen=True, slots=True)
class Room:
    """How much may wait in one priority."""

    items: int
    bytes: int


# Lanes of this process, for whoever counts them; a lane that is gone is gone from here.
_LANES: "WeakSet[Lane[Any, Any]]" = WeakSet()


@dataclass(slots=True)
class Tally:
    """What a lane has done since it began."""

    sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))
    waits_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    rounds_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    late: int = 0
    full: int = 0

    def add(self, other: "Tally") -> None:
        """Takes in what another lane of the same name has done."""
        self.sizes.add(other.sizes)
        self.waits_s.add(other.waits_s)
        self.rounds_s.add(other.rounds_s)
        self.late += other.late
        self.full += other.full


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]
    size_bytes: int
    since_s: float
    until_s: float | None


class _Turns(Generic[Item, Result]):
    """Items of one priority: each key gives one in turn, and may hold as much as is still free:
    whoever fills the lane leaves room for the others. Source: Choudhury and Hahne, Dynamic queue
    length thresholds for shared-memory packet switches, 1998, with a factor of 1.
    """

    __slots__ = ("_bytes", "_room", "bytes", "queues", "waiting")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes: dict[str, int] = {}
        self.queues: OrderedDict[str, deque[_Waiting[Item, Result]]] = OrderedDict()
        self.waiting = 0
        self.bytes = 0

    def has_room(self, key: str, size_bytes: int) -> bool:
        """Whether one more of the key may wait. Items without a key share all there is."""
        free = self._room.items - self.waiting
        free_bytes = self._room.bytes - self.bytes
        if free < 1 or free_bytes < size_bytes:
            return False
        queue = self.queues.get(key)
        if not key or queue is None:
            return True
        return len(queue) < free and self._bytes[key] + size_bytes <= free_bytes

    def put(self, key: str, waiting: _Waiting[Item, Result]) -> None:
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = deque()
            self._bytes[key] = 0
        queue.append(waiting)
        self._bytes[key] += waiting.size_bytes
        self.waiting += 1
        self.bytes += waiting.size_bytes

    def first(self) -> _Waiting[Item, Result]:
        """Whose turn it is; it stays where it is."""
        return next(iter(self.queues.values()))[0]

    def pop(self) -> None:
        """Takes the first out; its key goes to the end."""
        key, queue = self.queues.popitem(last=False)
        waiting = queue.popleft()
        self.waiting -= 1
        self.bytes -= waiting.size_bytes
        if queue:
            self.queues[key] = queue
            self._bytes[key] -= waiting.size_bytes
        else:
            del self._bytes[key]


class Lane(Generic[Item, Result]):
    """Sends items in rounds of at most `items_max` and `bytes_max`, one round in flight: the
    smallest priority first, within one priority key by key. An item larger than a round goes alone.
    At most `waiting_max` items and 64 rounds' worth of bytes wait in each priority: what is less
    urgent keeps nothing more urgent out.

    `send` gets the items of a round and answers one result each, in order; a result that is an
    exception is raised to that item's caller, an exception of `send` itself to all callers of the
    round. What was sent is waited for whatever the clock says: it may have been done.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        name: str,
        items_max: int = 256,
        bytes_max: int = 1024 * 1024,
        waiting_max: int = 20_000,
    ) -> None:
        self.name = name
        self.tally = Tally()
        self._send = send
        self._items_max, self._bytes_max = items_max, bytes_max
        self._room = Room(waiting_max, bytes_max * WAITING_ROUNDS)
        self._turns: dict[int, _Turns[Item, Result]] = {}
        self._priorities: list[int] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        _LANES.add(self)

    @property
    def waiting(self) -> int:
        """How many items wait now."""
        return self._waiting

    async def submit(
        self,
        item: Item,
        key: str = "",
        *,
        priority: int = 0,
        size_bytes: int = 0,
        time_left_s: float | None = None,
    ) -> Result:
        """Waits for the item's result. Raises NoCapacity (LANE_FULL) at once when too much waits,
        Unavailable (DEADLINE_PASSED) when its time passed before it was sent.
        """
        return await self.put(
            item, key, priority=priority, size_bytes=size_bytes, time_left_s=time_left_s
        )

    def put(
        self,
        item: Item,
        key: str = "",
        *,
        priority: int = 0,
        size_bytes: int = 0,
        time_left_s: float | None = None,
    ) -> "asyncio.Future[Result]":
        """Queues the item and gives the future of its result; for callers that do not wait."""
        turns = self._turns_of(priority)
        if not turns.has_room(key, size_bytes):
            raise self._full()
        loop = asyncio.get_running_loop()
        until_s = None if time_left_s is None else loop.time() + time_left_s
        answer: asyncio.Future[Result] = loop.create_future()
        turns.put(key, _Waiting(item, answer, size_bytes, time.monotonic(), until_s))
        self._waiting += 1
        self._wake.set()
        return answer

    async def run(self) -> None:
        """Sends rounds until cancelled; what still waits then is cancelled too."""
        try:
            while True:
                await self._wake.wait()
                round_ = self._take()
                if round_:
                    await self._send_round(round_)
        finally:
            for turns in self._turns.values():
                for queue in turns.queues.values():
                    for waiting in queue:
                        waiting.answer.cancel()

    def _turns_of(self, priority: int) -> _Turns[Item, Result]:
        turns = self._turns.get(priority)
        if turns is None:
            turns = self._turns[priority] = _Turns(self._room)
            insort(self._priorities, priority)
        return turns

    def _take(self) -> list[_Waiting[Item, Result]]:
        taken: list[_Waiting[Item, Result]] = []
        room = self._bytes_max
        now_s = asyncio.get_running_loop().time()
        for priority in self._priorities:
            turns = self._turns[priority]
            while turns.queues and len(taken) < self._items_max:
                waiting = turns.first()
                if taken and waiting.size_bytes > room:
                    # Whoever comes after it would pass it for ever.
                    return taken
                turns.pop()
                self._waiting -= 1
                if self._is_wanted(waiting, now_s):
                    taken.append(waiting)
                    room -= waiting.size_bytes
        if not self._waiting:
            self._wake.clear()
        return taken

    def _is_wanted(self, waiting: _Waiting[Item, Result], now_s: float) -> bool:
        if waiting.answer.done():
            return False
        self.tally.waits_s.observe(time.monotonic() - waiting.since_s)
        if waiting.until_s is None or now_s < waiting.until_s:
            return True
        self.tally.late += 1
        late = Unavailable("DEADLINE_PASSED", "the caller's time passed before this was begun")
        _settle(waiting.answer, late)
        return False

    async def _send_round(self, round_: list[_Waiting[Item, Result]]) -> None:
        self.tally.sizes.observe(len(round_))
        began_s = time.monotonic()
        results: Sequence[Result | Exception]
        try:
            results = await self._send([waiting.item for waiting in round_])
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                for waiting in round_:
                    waiting.answer.cancel()
                raise
            # Not this lane is cancelled but what it waited for: it goes on for all the others.
            gone = Unavailable("PEER_UNREACHABLE", "what was asked was cancelled on its way")
            results = [gone] * len(round_)
        except Exception as error:  # noqa: BLE001  # every failure of a round is its callers' to know
            results = [error] * len(round_)
        self.tally.rounds_s.observe(time.monotonic() - began_s)
        for waiting, result in zip(round_, results, strict=True):
            _settle(waiting.answer, result)

    def _full(self) -> NoCapacity:
        self.tally.full += 1
        return NoCapacity(
            "LANE_FULL",
            f"{self.name} has {self._waiting} requests waiting; try again later",
            metadata={"lane": self.name},
            retry_after_s=1.0,
        )


def lanes() -> "list[Lane[Any, Any]]":
    """The lanes of this process that are in use, in no order."""
    return list(_LANES)


def _settle(answer: "asyncio.Future[Result]", result: Result | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
        answer.exception()  # a caller that has gone must not make the loop complain
    else:
        answer.set_result(result)
