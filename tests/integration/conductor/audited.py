"""Hosts as an audit sees them: each answers from what a test says that it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from services.conductor.edges.store.audits import PostgresAudits
from services.conductor.flows.audit import Auditor, Compared
from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.flows.inventory import Inventorist
from services.conductor.logic.audit import Difference
from services.domain.instance import Power

Claim = tuple[str, int]


@dataclass
class Hosts:
    """Fake hosts that are asked for inventories, and answer at once unless they are `silent`."""

    store: PostgresAudits
    guests: dict[str, dict[Claim, Power]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[tuple[str, int]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)

    def has(self, host_id: str, claim: Claim, power: Power = Power.RUNNING) -> None:
        self.guests.setdefault(host_id, {})[claim] = power

    async def ask_inventory(self, host_id: str, incarnation: int, revision: int) -> None:
        self.asked.append((host_id, revision))
        if host_id not in self.silent:
            await self.tell(host_id, incarnation, revision)

    async def tell(self, host_id: str, incarnation: int = 1, revision: int = 0) -> bool:
        """Says all that the host has, listed after the newest commit that it was asked for."""
        revision = self.heard[host_id] = max(revision, self.heard.get(host_id, 0))
        number = self.numbers[host_id] = self.numbers.get(host_id, 0) + 1
        told = tuple(
            ReportedGuest(instance_id, epoch, 1, power)
            for (instance_id, epoch), power in self.guests.get(host_id, {}).items()
        )
        return await self.store.inventory_keep(
            Inventory(host_id, incarnation, number, revision, told)
        )

    async def greet(self, host_id: str, incarnation: int = 1) -> None:
        """Says what a Hello says."""
        told = tuple(
            ReportedGuest(i, e, 1, p) for (i, e), p in self.guests.get(host_id, {}).items()
        )
        await self.store.inventory_keep(Inventory(host_id, incarnation, 0, 0, told))

    def inventorist(self) -> Inventorist:
        return Inventorist(self.store, self, answer_s=1.0 if self.silent else 45.0)

    def auditor(self) -> Auditor:
        return Auditor(self.store, self.inventorist(), pause_s=0.1)


async def differences(auditor: Auditor, host_id: str = "") -> list[Difference]:
    """All that an audit tells."""
    found: list[Difference] = []
    async for told in _told(auditor, host_id):
        found += told
    return found


async def _told(auditor: Auditor, host_id: str) -> AsyncIterator[list[Difference]]:
    async for told in auditor.audit(host_id):
        if not isinstance(told, Compared):
            yield list(told)


async def kinds(auditor: Auditor, host_id: str = "") -> list[str]:
    """The kinds of all that an audit tells, in order."""
    return sorted(found.kind.name for found in await differences(auditor, host_id))
