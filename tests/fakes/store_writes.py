"""How the store in memory writes: a batch whole but for the refused, in the order of PostgreSQL.

Does not own who is refused (`store_verdicts`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from services.conductor.edges.store.writes import allowed_s, entry_kind
from services.conductor.logic.items import (
    ClaimAct,
    ClaimChange,
    Committed,
    Item,
    Outcome,
    Record,
    RequestKey,
)
from services.conductor.logic.quota import asked_of
from services.conductor.logic.rows import ClaimRow, HostRow, ProjectRow
from services.domain.kinds import ClaimRole
from services.domain.resources import NOTHING, QuotaAmounts
from tests.fakes.store_rows import (
    Claim,
    Host,
    Operation,
    Project,
    Rows,
    entry_record,
    host_record,
    instance_record,
    operation_record,
    project_record,
    quota,
)
from tests.fakes.store_verdicts import plus, request_key, verdicts


class GuardedError(Exception):
    """A last guard stopped the batch."""


class Writer:
    """The rows, and the one way to change them. `now_s` is the one clock."""

    def __init__(self, now_s: Callable[[], float], usual_limits: QuotaAmounts) -> None:
        self.rows = Rows()
        self._now_s = now_s
        self._usual = usual_limits

    def _committed(self, items: Sequence[Item]) -> list[Outcome]:
        refused = verdicts(self.rows, items, self._usual)
        taken = [(n, item) for n, item in enumerate(items) if n not in refused]
        self._guard([item for _, item in taken])
        told: dict[int, list[Record]] = defaultdict(list)
        for place, item in taken:
            self._write_instance(item, told[place])
        for place, item in taken:
            self._write_operations(item, told[place])
        for place, item in taken:
            self._write_entry(item, told[place])
        self._write_hosts(taken, told)
        for place, item in taken:
            self._write_project(item, told[place])
        claims = {place: self._write_claims(item) for place, item in taken}
        for _, item in taken:
            if item.request is not None:
                self._remember(item.request)
                if item.request.batch:
                    self._remember(item.request.of_batch())
        return [
            refused[n] if n in refused else Committed(tuple(told[n]), claims[n])
            for n in range(len(items))
        ]

    def _remember(self, request: RequestKey) -> None:
        self.rows.requests.setdefault(request_key(request), request)
        self.rows.requested_at_s.setdefault(request_key(request), self._now_s())

    def _guard(self, items: Sequence[Item]) -> None:
        """What only unique indexes find: a second holder, a second operation of one instance."""
        holders = {c.instance_id for c in self.rows.claims.values() if c.role is ClaimRole.HOLDER}
        added = [c.instance_id for item in items for c in item.claims if c.act is ClaimAct.ADD]
        if not holders.isdisjoint(added) or len(set(added)) < len(added):
            raise GuardedError
        under_way = dict(self.rows.under_way)
        for item in items:
            for row in item.operations:
                if row.finished and under_way.get(row.resource_id) == row.id:
                    del under_way[row.resource_id]
        for item in items:
            for row in item.operations:
                if not row.finished and under_way.setdefault(row.resource_id, row.id) != row.id:
                    raise GuardedError

    def _next(self) -> int:
        self.rows.head += 1
        return self.rows.head

    def _write_instance(self, item: Item, told: list[Record]) -> None:
        if (row := item.instance) is None:
            return
        rows, revision = self.rows, self._next()
        before = rows.instances.get(row.id)
        adds = any(change.act is ClaimAct.ADD for change in item.claims)
        row = replace(
            row, version=row.version + 1, revision=revision, epoch=revision if adds else row.epoch
        )
        if before is not None and not before.deleted:
            del rows.names[before.project_id, before.name]
        if not row.deleted:
            rows.names[row.project_id, row.name] = row.id
        if before is None or (row.deleted and not before.deleted):
            self._use(row.project_id, asked_of(row.resources), 0 if row.deleted and not before else
                      -1 if row.deleted else 1)  # fmt: skip
        rows.instances[row.id] = row
        if item.wants and before is not None:
            for claim in rows.claims_of(row.id):
                rows.claims[claim.instance_id, claim.epoch] = replace(
                    claim, wanted_revision=revision
                )
        told.append(rows.tell(instance_record(row)))

    def _use(self, project_id: str, asked: QuotaAmounts, sign: int) -> None:
        known = self.rows.projects.get(project_id, Project(ProjectRow(project_id, "", 0.0)))
        pairs = zip(quota(known.used), quota(asked), strict=True)
        used = QuotaAmounts(*(a + sign * b for a, b in pairs))
        self.rows.projects[project_id] = replace(known, used=used)

    def _write_operations(self, item: Item, told: list[Record]) -> None:
        # Ends before beginnings, so that one item can put an operation in another's place.
        for row in sorted(item.operations, key=lambda o: not o.finished):
            if row.finished and self.rows.under_way.get(row.resource_id) == row.id:
                del self.rows.under_way[row.resource_id]
        now_s = self._now_s()
        for row in sorted(item.operations, key=lambda o: o.id):
            known = self.rows.operations.get(row.id)
            written = replace(row, version=row.version + 1, revision=self._next())
            accepted_at_s = known.accepted_at_s if known else now_s
            deadline_at_s = now_s + allowed_s(written)
            if known is not None and known.row.phase is written.phase:
                deadline_at_s = known.deadline_at_s
            look_at_s = now_s + item.look_again_s
            stored = Operation(written, look_at_s, accepted_at_s, deadline_at_s=deadline_at_s)
            self.rows.operations[row.id] = stored
            if not row.finished:
                self.rows.under_way[row.resource_id] = row.id
            told.append(self.rows.tell(operation_record(written)))

    def _write_entry(self, item: Item, told: list[Record]) -> None:
        if item.entry is not None:
            row = replace(item.entry, version=item.entry.version + 1, revision=self._next())
            self.rows.catalog[entry_kind(row), row.id] = row
            told.append(self.rows.tell(entry_record(row)))

    def _write_project(self, item: Item, told: list[Record]) -> None:
        if (row := item.project) is None:
            return
        known = self.rows.projects.get(row.id, Project(ProjectRow(row.id, "", 0.0)))
        row = replace(
            row,
            limits=None if row.deleted else row.limits,
            version=known.row.version + 1,
            revision=self._next(),
        )
        project = replace(known, row=row)
        self.rows.projects[row.id] = project
        anew = known.seen_version == 0
        told.append(self.rows.tell(project_record(project, self._usual), anew=anew))

    def _write_hosts(
        self, taken: Sequence[tuple[int, Item]], told: dict[int, list[Record]]
    ) -> None:
        """The one change of each touched host is told by the first item that touches it."""
        tellers: dict[str, int] = {}
        for place, item in taken:
            if item.host is not None:
                self._write_host(item.host)
            touched = [c.host_id for c in item.claims if c.act is not ClaimAct.LEAVE]
            for host_id in [*touched, *([item.host.id] if item.host else ())]:
                tellers.setdefault(host_id, place)
        changed = {item.host.id for _, item in taken if item.host is not None}
        for _, item in taken:
            for change in item.claims:
                if change.act in (ClaimAct.ADD, ClaimAct.REMOVE, ClaimAct.CONDEMN):
                    changed.add(change.host_id)
                    self._count(change)
        for host_id in sorted(changed):
            host = self.rows.hosts[host_id]
            host = replace(host, version=host.version + 1, revision=self._next())
            self.rows.hosts[host_id] = host
            told[tellers[host_id]].append(self.rows.tell(host_record(host)))

    def _write_host(self, row: HostRow) -> None:
        rows, known = self.rows, self.rows.hosts.get(row.id)
        if known is None or known.row.incarnation != row.incarnation:
            rows.leases[row.id] = (row.incarnation, self._now_s(), False)
        row = replace(row, seen_edition=row.seen_edition + 1)
        host = replace(known, row=row) if known else Host(row)
        if row.deleted:
            # What is left of a host that is removed goes with it.
            host = replace(host, used=NOTHING, claims=0)
            rows.claims = {k: c for k, c in rows.claims.items() if c.host_id != row.id}
        rows.hosts[row.id] = host

    def _count(self, change: ClaimChange) -> None:
        host, sign = self.rows.hosts[change.host_id], 1
        resources = change.resources
        if change.act is ClaimAct.REMOVE:
            sign, resources = -1, self.rows.claims[change.instance_id, change.epoch].resources
        used = plus(host.used, resources, sign)
        self.rows.hosts[change.host_id] = replace(host, used=used, claims=host.claims + sign)

    def _write_claims(self, item: Item) -> tuple[ClaimRow, ...]:
        rows, added, now_s = self.rows, [], self._now_s()
        for change in item.claims:
            key = (change.instance_id, change.epoch)
            match change.act:
                case ClaimAct.ADD:
                    epoch = rows.instances[change.instance_id].epoch
                    claim = Claim(
                        change.instance_id, epoch, change.host_id, ClaimRole.HOLDER,
                        change.resources, epoch,
                    )  # fmt: skip
                    rows.claims[change.instance_id, epoch] = claim
                    added.append(claim)
                case ClaimAct.LEAVE:
                    left = rows.claims[key].condemned(now_s) if change.discard else rows.claims[key]
                    rows.claims[key] = replace(
                        left, role=ClaimRole.LEAVING, wanted_revision=rows.head
                    )
                case ClaimAct.CONDEMN:
                    rows.claims[key] = Claim(
                        *key, change.host_id, ClaimRole.LEAVING, NOTHING, rows.head
                    ).condemned(now_s)
                case ClaimAct.DISCARD:
                    rows.claims[key] = rows.claims[key].condemned(now_s)
                case ClaimAct.REMOVE:
                    rows.claims.pop(key, None)
                case ClaimAct.OBSERVE:
                    if key in rows.claims:
                        rows.claims[key] = replace(
                            rows.claims[key],
                            incarnation=change.incarnation,
                            sequence=change.sequence,
                        )
        return tuple(rows.claim_row(claim) for claim in added)
