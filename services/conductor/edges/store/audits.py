"""Inventories and audits over PostgreSQL: implements `flows.audit_ports.AuditReads`.

Owns on which session each runs: reports on the one for what nobody sees, so that they wait for no
commit and no commit for them, reads on one of their own, so that no list waits for an audit. Does
not own the questions (audit, unknown).
"""

from collections.abc import Sequence
from functools import partial

from services.conductor.edges.store import audit, unknown
from services.conductor.edges.store.session import Session
from services.conductor.flows.audit_ports import Inventory
from services.conductor.logic.audit_facts import (
    ClaimFact,
    Heard,
    HostFact,
    HostLook,
    InstanceFact,
    OperationFact,
    ProjectFact,
    UnknownGuest,
)


class PostgresAudits:
    """Raises Unavailable (DATABASE_UNAVAILABLE, READ_TOO_LONG)."""

    def __init__(self, reads: Session, quiet: Session) -> None:
        self._reads = reads
        self._quiet = quiet

    async def inventory_keep(self, inventory: Inventory) -> bool:
        """Keeps a report; whether it is of the live incarnation."""
        return await self._quiet.run(lambda c: audit.keep(c, inventory))

    async def unknown_guests_read(
        self, host_id: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[UnknownGuest]:
        """Guests that no claim stands for; whoever waits has a turn after each stretch."""
        found: list[UnknownGuest] = []
        place: tuple[str, str, int] | None = after
        while place is not None and len(found) < limit:
            read = partial(unknown.stretch, host_id=host_id, after=place, limit=limit - len(found))
            more, place = await self._reads.run(read)
            found += more
        return found

    async def hosts_heard_read(self, host_ids: Sequence[str]) -> Sequence[Heard]:
        """Hosts and when they last told what they have."""
        return await self._reads.run(lambda c: audit.heard(c, host_ids))

    async def host_looks_read(self, host_ids: Sequence[str]) -> Sequence[HostLook]:
        """Hosts with their claims and guests."""
        return await self._reads.run(lambda c: audit.looks(c, host_ids))

    async def host_facts_read(
        self, after: str, limit: int, host_id: str = ""
    ) -> Sequence[HostFact]:
        """Ledgers."""
        return await self._reads.run(lambda c: audit.hosts(c, after, limit, host_id))

    async def project_facts_read(self, after: str, limit: int) -> Sequence[ProjectFact]:
        """Quotas."""
        return await self._reads.run(lambda c: audit.projects(c, after, limit))

    async def instance_facts_read(self, after: str, limit: int) -> Sequence[InstanceFact]:
        """Instances with holders and operations."""
        return await self._reads.run(lambda c: audit.instances(c, after, limit))

    async def claim_facts_read(self, after: tuple[str, int], limit: int) -> Sequence[ClaimFact]:
        """Claims with instances."""
        return await self._reads.run(lambda c: audit.claims(c, after, limit))

    async def operation_facts_read(self, after: str, limit: int) -> Sequence[OperationFact]:
        """Unfinished operations with instances."""
        return await self._reads.run(lambda c: audit.operations(c, after, limit))
