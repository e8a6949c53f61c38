"""The database of a simulated cloud, and a conductor's way to it: away for a while, slow, and with
answers that are lost after the commit.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from services.conductor.edges.store.session import PAUSE_S, RETRY_AFTER_S, TRY_FOR_S
from services.domain.errors import Unavailable
from tests.fakes.store import MemoryStore
from tests.fakes.store_rows import Rows
from tests.simulation.loop import Being
from tests.simulation.network import Network

POSTGRES = "postgres"
ABOVE = 1 << 40
_SESSIONS = {
    "items_commit": "commits",
    "items_check": "commits",
    "leases_renew": "quiet",
    "operations_take": "quiet",
    "operations_count": "quiet",
    "log_tend": "quiet",
    "records_read": "pages",
    "inventory_keep": "quiet",
    "unknown_guests_read": "pages",
    "host_looks_read": "pages",
    "host_facts_read": "pages",
    "project_facts_read": "pages",
    "instance_facts_read": "pages",
    "claim_facts_read": "pages",
    "operation_facts_read": "pages",
}


class Database:
    """The one truth. `lost` is of how many statements the answer is lost, done or not."""

    def __init__(self, network: Network, rng: Random, store: MemoryStore) -> None:
        self.network = network
        self.rng = rng
        self.store = store
        self.up = True
        self.lost = 0.0
        self.history_id = "history-1"
        self._kept = store.rows

    def keep(self) -> Rows:
        """Makes a backup."""
        self._kept = self.store.rows.copy()
        return self._kept

    def set_back(self) -> None:
        """Goes back to it: another history begins, far above all numbers of the one before, and
        nobody reads across its beginning. Source: MECHANICS E3.
        """
        self.store.rows = rows = self._kept.copy()
        rows.head += ABOVE
        rows.compacted = rows.head
        self.history_id += "'"

    def reaches(self, being: Being) -> bool:
        """Whether the process can speak to it now."""
        return self.up and self.network.passes(being.name, POSTGRES)


class SimulatedStore:
    """One conductor's store: implements `flows.ports.Store` and `flows.audit_ports.AuditReads`, and
    does what a `Session` does where the connection is lost: the same again for a few seconds. In
    another history than that in which it began it refuses everything, and `over` is set.
    """

    def __init__(self, database: Database, being: Being) -> None:
        self.over = asyncio.Event()
        self.history_id = database.history_id
        self._database = database
        self._being = being
        self._turns: dict[str, asyncio.Lock] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        session = _SESSIONS.get(name, "reads")
        turn = self._turns.setdefault(session, asyncio.Lock())

        async def call(*args: Any, **named: Any) -> Any:
            async with turn:
                return await self._tried(name, args, named)

        return call

    async def _tried(self, name: str, args: Any, named: Any) -> Any:
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + TRY_FOR_S
        while True:
            done, answer = await self._once(name, args, named)
            if done:
                if isinstance(answer, Exception):
                    raise answer
                return answer
            if loop.time() + PAUSE_S >= give_up_at_s:
                raise Unavailable(
                    "DATABASE_UNAVAILABLE", "the database did not answer",
                    retry_after_s=RETRY_AFTER_S,
                )  # fmt: skip
            await asyncio.sleep(PAUSE_S)

    async def _once(self, name: str, args: Any, named: Any) -> tuple[bool, Any]:
        database = self._database
        network, rng = database.network, database.rng
        await asyncio.sleep(network.delay_s())
        if not database.reaches(self._being) or rng.random() < database.lost:
            return False, None
        if database.history_id != self.history_id:
            self.over.set()
            return True, Unavailable("DATABASE_UNAVAILABLE", "the database is of another history")
        answer: Any
        try:
            answer = await getattr(database.store, name)(*args, **named)
        except Exception as error:  # noqa: BLE001  # what the statement says, its caller hears
            answer = error
        await asyncio.sleep(network.delay_s())
        # The connection may have died between the commit and its answer.
        return database.reaches(self._being) and rng.random() >= database.lost, answer
