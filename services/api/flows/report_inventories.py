"""Reports what a host has beside all else that it says: a conductor that is slow to take an
inventory holds up no beat and no observation.

Owns that one inventory of a host is under way at a time; of those that come meanwhile the newest
waits. One that is lost is made up for by the next.
"""

import asyncio

from services.api.flows.ports import HostRecords, Inventory
from services.domain.errors import CloudError
from services.runtime.log import logger


class InventoryReports:
    """The inventories of one agent: a host and its incarnation."""

    def __init__(self, records: HostRecords, agent: tuple[str, int]) -> None:
        self._records = records
        self._agent = agent
        self._newest: Inventory | None = None
        self._came = asyncio.Event()

    def put(self, inventory: Inventory) -> None:
        """Reports it soon, instead of one that waits."""
        self._newest = inventory
        self._came.set()

    async def until_superseded(self) -> None:
        """Reports until another agent of the host is live."""
        live = True
        while live:
            await self._came.wait()
            self._came.clear()
            inventory, self._newest = self._newest, None
            assert inventory is not None
            try:
                live = await self._records.inventory_report(*self._agent, inventory)
            except CloudError as refused:
                logger().warning("inventory lost", host=self._agent[0], error=repr(refused))
