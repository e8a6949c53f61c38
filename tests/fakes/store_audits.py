"""What audits read of the store in memory, and what hosts say that they have. Owns no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.logic.audit_facts import (
    ClaimFact,
    GuestFact,
    Heard,
    HostFact,
    HostLook,
    InstanceFact,
    OperationFact,
    ProjectFact,
    Report,
    UnknownGuest,
)
from services.conductor.logic.rows import InstanceRow
from services.domain.ids import is_row_id
from services.domain.kinds import ClaimRole
from services.domain.operation import OperationAction
from tests.fakes.store_rows import Claim, Host, Kept, amounts
from tests.fakes.store_writes import Writer

Fact = TypeVar("Fact")
Place = tuple[str, int]


class AuditReader(Writer):
    """Implements `flows.audit_ports.AuditReads`."""

    @property
    def audits(self) -> AuditReader:
        """Where the store over PostgreSQL has it."""
        return self

    async def inventory_keep(self, inventory: Inventory) -> bool:
        host = self.rows.hosts.get(inventory.host_id)
        if host is None or host.row.incarnation != inventory.incarnation or host.row.fenced:
            return False
        kept = self.rows.inventories.get(inventory.host_id)
        if kept is not None and inventory.number and not _is_newer(inventory, kept.told):
            return True
        guests: dict[Place, tuple[ReportedGuest, float]] = {}
        for guest in inventory.guests:
            place = (guest.instance_id, guest.epoch)
            if is_row_id(guest.instance_id) and place not in guests:
                before = kept.guests.get(place) if kept is not None else None
                guests[place] = (guest, before[1] if before else self._now_s())
        self.rows.inventories[inventory.host_id] = Kept(inventory, self._now_s(), guests)
        return True

    async def unknown_guests_read(
        self, host_id: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[UnknownGuest]:
        rows, found = self.rows, list[UnknownGuest]()
        for on, kept in rows.inventories.items():
            for place, (guest, first_s) in kept.guests.items():
                claim = rows.claims.get(place)
                if host_id not in ("", on) or (claim is not None and claim.host_id == on):
                    continue
                if rows.hosts[on].row.deleted:
                    continue
                found.append(
                    UnknownGuest(
                        on, *place, guest.power, self._newest_epoch(place[0]), rows.head,
                        first_s, kept.at_s,
                    )
                )  # fmt: skip
        return _page(found, lambda one: one.key, after, limit)

    async def host_looks_read(self, host_ids: Sequence[str]) -> Sequence[HostLook]:
        known = [self.rows.hosts[id_] for id_ in sorted(set(host_ids) & self.rows.hosts.keys())]
        return [self._look(host) for host in known if not host.row.deleted]

    async def hosts_heard_read(self, host_ids: Sequence[str]) -> Sequence[Heard]:
        return await self.host_looks_read(host_ids)

    def _look(self, host: Host) -> HostLook:
        rows, row = self.rows, host.row
        kept = rows.inventories.get(row.id)
        report, told = None, dict[Place, tuple[ReportedGuest, float]]()
        if kept is not None:
            said, told = kept.told, kept.guests
            age_s = self._now_s() - kept.at_s
            report = Report(said.incarnation, said.as_of_revision, said.cut_short, age_s)
        claims = {place: c for place, c in rows.claims.items() if c.host_id == row.id}
        guests = tuple(
            self._guest(place, claims.get(place), told[place][0] if place in told else None)
            for place in sorted(claims.keys() | told.keys())
        )
        return HostLook(row.id, row.state, row.incarnation, rows.head, report, guests)

    def _guest(self, place: Place, claim: Claim | None, told: ReportedGuest | None) -> GuestFact:
        row = self.rows.instances.get(place[0])
        at_s = claim.discarded_at_s if claim else None
        return GuestFact(
            *place,
            role=claim.role if claim else None,
            discard=claim.discard if claim else False,
            discarded_s=self._now_s() - at_s if at_s is not None else 0.0,
            power=told.power if told else None,
            applied_generation=told.applied_generation if told else 0,
            project_id=row.project_id if row else "",
            state=row.standing.state if row else None,
            task=row.standing.task if row else None,
            known_power=row.power if row else None,
            version=row.version if row else 0,
            newest_epoch=self._newest_epoch(place[0]),
        )

    def _newest_epoch(self, instance_id: str) -> int:
        return max((claim.epoch for claim in self.rows.claims_of(instance_id)), default=0)

    async def host_facts_read(
        self, after: str, limit: int, host_id: str = ""
    ) -> Sequence[HostFact]:
        hosts = [h for h in self.rows.hosts.values() if host_id in ("", h.row.id)]
        facts = [
            HostFact(
                host.row.id,
                (*amounts(host.used), host.claims),
                _sum(c.resources for c in self.rows.claims.values() if c.host_id == host.row.id),
            )
            for host in hosts
        ]
        return _page(facts, lambda one: one.id, after, limit)

    async def project_facts_read(self, after: str, limit: int) -> Sequence[ProjectFact]:
        living = self._living()
        known = self.rows.projects
        facts = []
        for id_ in known.keys() | {row.project_id for row in living}:
            used = (0, 0, 0, 0)
            if id_ in known:
                amount = known[id_].used
                used = (amount.vcpus, amount.memory_mib, amount.disk_gib, amount.instances)
            its = _sum(row.resources for row in living if row.project_id == id_)
            facts.append(ProjectFact(id_, used, its))
        return _page(facts, lambda one: one.id, after, limit)

    def _living(self) -> list[InstanceRow]:
        return [row for row in self.rows.instances.values() if not row.deleted]

    async def instance_facts_read(self, after: str, limit: int) -> Sequence[InstanceFact]:
        rows = self.rows
        holders = {
            claim.instance_id: (claim.host_id, claim.epoch)
            for claim in rows.claims.values()
            if claim.role is ClaimRole.HOLDER
        }
        facts = [
            InstanceFact(
                row.id, row.project_id, row.standing.state, row.standing.task, row.host_id,
                row.epoch, holders.get(row.id), rows.under_way.get(row.id, ""),
            )
            for row in self._living()
        ]  # fmt: skip
        return _page(facts, lambda one: one.id, after, limit)

    async def claim_facts_read(self, after: tuple[str, int], limit: int) -> Sequence[ClaimFact]:
        facts = []
        for claim in self.rows.claims.values():
            row = self.rows.instances.get(claim.instance_id)
            facts.append(
                ClaimFact(
                    claim.instance_id, claim.epoch, claim.host_id, claim.role,
                    project_id=row.project_id if row else "",
                    state=row.standing.state if row else None,
                    instance_host_id=row.host_id if row else "",
                    instance_epoch=row.epoch if row else 0,
                )
            )  # fmt: skip
        return _page(facts, lambda one: (one.instance_id, one.epoch), after, limit)

    async def operation_facts_read(self, after: str, limit: int) -> Sequence[OperationFact]:
        facts, now_s = [], self._now_s()
        for id_ in self.rows.under_way.values():
            known = self.rows.operations[id_]
            row = self.rows.instances.get(known.row.resource_id)
            facts.append(
                OperationFact(
                    id_, known.row.project_id, known.row.resource_id,
                    of_instance=known.row.action in OF_INSTANCES,
                    look_late_s=now_s - known.look_again_at_s,
                    late_s=now_s - known.deadline_at_s,
                    state=row.standing.state if row else None,
                    task=row.standing.task if row else None,
                )
            )  # fmt: skip
        return _page(facts, lambda one: one.resource_id, after, limit)


OF_INSTANCES = frozenset(a for a in OperationAction if a.name.endswith("_INSTANCE"))


def _is_newer(told: Inventory, than: Inventory) -> bool:
    return told.incarnation != than.incarnation or told.number > than.number


def _sum(resources: Iterable[Any]) -> tuple[int, int, int, int]:
    found = [amounts(one) for one in resources]
    vcpus, memory_mib, disk_gib = (sum(one[n] for one in found) for n in range(3))
    return vcpus, memory_mib, disk_gib, len(found)


def _page(
    facts: Iterable[Fact], place_of: Callable[[Fact], Any], after: Any, limit: int
) -> list[Fact]:
    return sorted((f for f in facts if place_of(f) > after), key=place_of)[:limit]
