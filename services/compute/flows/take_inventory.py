"""Tells the control plane all guests that a host has, known or not: after a change, when it is
asked, and now and then.

Owns when to list and what one inventory may carry. Does not judge: a guest that nobody claims is
left as it is, and told. Source: MECHANICS C7.
"""

import asyncio
from random import Random

from services.compute.flows.ports import Driver, Inventory, StateStream
from services.runtime.log import logger

GUESTS_MAX = 4096
SLOW_LOOK_S = 30.0
# What this agent did itself it has told by observations: there is no hurry.
OWN_CHANGE_S = 15.0
PAUSE_S = 1.0


class Counter:
    """Lists and tells, one inventory after another."""

    def __init__(self, driver: Driver, rng: Random) -> None:
        self._driver = driver
        self._rng = rng
        self._asked_revision = 0
        self._stirred = asyncio.Event()
        self._changed = False

    def ask(self, revision: int) -> None:
        """Makes the next inventory come at once, listed after this commit."""
        self._asked_revision = max(self._asked_revision, revision)
        self._stirred.set()

    def stir(self) -> None:
        """A guest changed behind the agent's back: the next inventory comes soon."""
        self._stirred.set()

    def note_change(self) -> None:
        """The agent changed a guest."""
        self._changed = True

    async def tell(self, stream: StateStream) -> None:
        """Says inventories on one stream until cancelled. Raises what sending raises."""
        number = 0
        while True:
            await self._wait()
            number += 1
            inventory = await self._list(number)
            if inventory is not None:
                await stream.send(inventory)
            await asyncio.sleep(PAUSE_S)

    async def _wait(self) -> None:
        clock = asyncio.get_running_loop().time
        began_s, slow_s = clock(), SLOW_LOOK_S * self._rng.uniform(0.8, 1.2)
        while not self._stirred.is_set():
            left_s = began_s + (OWN_CHANGE_S if self._changed else slow_s) - clock()
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(min(left_s, OWN_CHANGE_S)):
                    await self._stirred.wait()
            except TimeoutError:
                continue
        self._stirred.clear()
        self._changed = False

    async def _list(self, number: int) -> Inventory | None:
        as_of = self._asked_revision
        try:
            guests = await self._driver.list_guests()
        except Exception as error:  # noqa: BLE001  # whatever it is, the next look is near
            logger().warning("guests not listed", error=repr(error))
            return None
        cut_short = len(guests) > GUESTS_MAX
        return Inventory(tuple(guests[:GUESTS_MAX]), number, as_of, cut_short=cut_short)
