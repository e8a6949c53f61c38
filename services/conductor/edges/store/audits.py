"""Inventories and audits over PostgreSQL: implements `flows.audit_ports.AuditReads`.

Owns on which session each runs: reports on the one for what nobody sees, so that they wait for no
commit and no commit for them, reads where pages are read. Does not own the questions (audit).
"""

from collections.abc import Sequence

from services.conductor.edges.store import audit
from services.conductor.edges.store.session import Session
from services.conductor.flows.audit_ports import Inventory
from services.conductor.logic.audit_facts import (
    ClaimFact,
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
        """Guests that no claim stands for."""
        return await self._reads.run(lambda c: audit.unknown_guests(c, host_id, after, limit))

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
