"""What inventories and audits need of the world. Each read is one snapshot, bounded at 2 s."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
from services.domain.instance import Power


@dataclass(frozen=True, slots=True)
class ReportedGuest:
    """One guest as its host tells of it."""

    instance_id: str
    epoch: int
    applied_generation: int
    power: Power


@dataclass(frozen=True, slots=True)
class Inventory:
    """All guests of one host, as the contract's Inventory; `number` 0 came with a greeting."""

    host_id: str
    incarnation: int
    number: int
    as_of_revision: int
    guests: tuple[ReportedGuest, ...]
    cut_short: bool = False


class Inventories(Protocol):
    """What hosts say that they have."""

    async def inventory_keep(self, inventory: Inventory) -> bool:
        """Keeps it unless a newer one is kept; whether its incarnation is the live one. Takes no
        revision. Raises Unavailable.
        """
        ...

    async def unknown_guests_read(
        self, host_id: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[UnknownGuest]:
        """Guests that no claim stands for, of one host or (with "") of all, after a place."""
        ...

    async def hosts_heard_read(self, host_ids: Sequence[str]) -> Sequence[Heard]:
        """These hosts and when each last told what it has."""
        ...

    async def host_looks_read(self, host_ids: Sequence[str]) -> Sequence[HostLook]:
        """These hosts with their claims and guests, all in one snapshot."""
        ...


class AuditReads(Inventories, Protocol):
    """Records beside each other, a page in each snapshot: what comes after a place, in order. A
    page that is not full is the last.
    """

    async def host_facts_read(
        self, after: str, limit: int, host_id: str = ""
    ) -> Sequence[HostFact]:
        """Hosts by id; with `host_id` only that one."""
        ...

    async def project_facts_read(self, after: str, limit: int) -> Sequence[ProjectFact]:
        """Projects by id, also those that are nowhere but in instances."""
        ...

    async def instance_facts_read(self, after: str, limit: int) -> Sequence[InstanceFact]:
        """Living instances by id."""
        ...

    async def claim_facts_read(self, after: tuple[str, int], limit: int) -> Sequence[ClaimFact]:
        """Claims by instance and epoch."""
        ...

    async def operation_facts_read(self, after: str, limit: int) -> Sequence[OperationFact]:
        """Unfinished operations by resource, each of which has one at most."""
        ...


class Asker(Protocol):
    """The way to a host. Anything may be lost."""

    async def ask_inventory(self, host_id: str, incarnation: int, revision: int) -> None:
        """Asks for its guests, listed after this commit."""
        ...
