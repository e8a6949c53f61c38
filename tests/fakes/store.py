"""The conductor's store in memory: passes the same contract tests as the one over PostgreSQL.

SQL knows versions, sums and uniqueness, never states, so this is small. Owns the one commit path
and what is asked of single rows. Does not own pages (`store_pages`) nor what audits read
(`store_audits`). Source: MECHANICS A.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from services.conductor.flows.ports import (
    BeatAnswer,
    ChangePage,
    Due,
    OperationCount,
    Page,
    Query,
    View,
)
from services.conductor.logic.items import Item, Outcome, Refusal, Refused, RequestKey
from services.conductor.logic.leases import LEASE_S, Beat, Lease, Leases, Road, gap_s
from services.conductor.logic.paces import USUAL_PACES
from services.conductor.logic.rows import CatalogRow, HostRow, ProjectRow, Situation
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.resources import UNLIMITED, QuotaAmounts
from tests.fakes.store_audits import AuditReader
from tests.fakes.store_pages import page_of
from tests.fakes.store_rows import (
    Claim,
    Operation,
)
from tests.fakes.store_verdicts import request_key
from tests.fakes.store_writes import GuardedError

HOSTS, APIS = 1, 2


class MemoryStore(AuditReader):
    """Implements `flows.ports.Store`. `now_s` is its one clock, `rng` jitters the looks."""

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        usual_limits: QuotaAmounts = UNLIMITED,
        rng: Random | None = None,
    ) -> None:
        super().__init__(now_s, usual_limits)
        self._rng = rng or Random(0)  # it only spreads looks

    async def items_commit(self, items: Sequence[Item]) -> list[Outcome]:
        """If a last guard stopped the batch, in halves, down to the one item that is at fault."""
        try:
            return self._committed(items)
        except GuardedError:
            if len(items) == 1:
                return [Refused(Refusal.STALE)]
            half = len(items) // 2
            first = await self.items_commit(items[:half])
            return [*first, *await self.items_commit(items[half:])]

    async def items_check(self, items: Sequence[Item]) -> list[Outcome]:
        kept = self.rows
        self.rows = kept.copy()
        try:
            return await self.items_commit(items)
        finally:
            self.rows = kept

    async def projects_read(self, project_ids: Sequence[str]) -> dict[str, ProjectRow]:
        found = {}
        for id_ in project_ids:
            known = self.rows.projects.get(id_)
            if known is None or not (known.seen_version or known.used.instances):
                continue
            row = known.row if known.seen_version else ProjectRow(id_, "", 0.0)
            found[id_] = replace(row, limits=known.row.limits, used=known.used)
        return found

    async def log_tend(self, keep_s: float, bytes_max: int) -> None:
        """All of it is kept."""

    async def situations_read(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        return {id_: self._situation(id_) for id_ in instance_ids if id_ in self.rows.instances}

    def _situation(self, instance_id: str) -> Situation:
        rows = self.rows
        operation = rows.operations.get(rows.under_way.get(instance_id, ""))
        claims = tuple(rows.claim_row(claim) for claim in rows.claims_of(instance_id))
        row = rows.instances[instance_id]
        overdue = operation is not None and operation.deadline_at_s <= self._now_s()
        return Situation(row, operation.row if operation else None, claims, rows.head, overdue)

    async def catalog_read(
        self, wanted: Sequence[tuple[ResourceKind, str]]
    ) -> dict[tuple[ResourceKind, str], CatalogRow]:
        found = {key: self.rows.catalog[key] for key in wanted if key in self.rows.catalog}
        return {key: row for key, row in found.items() if not row.deleted}

    async def records_read(self, queries: Sequence[Query]) -> list[Page]:
        return [page_of(self.rows, query, self._usual) for query in queries]

    async def request_read(self, key: RequestKey) -> RequestKey | None:
        known = self.rows.requests.get(request_key(key))
        if known is None:
            return None
        return replace(
            key,
            fingerprint=known.fingerprint,
            resource_id=known.resource_id,
            operation_id=known.operation_id,
        )

    async def changes_read(self, after_revision: int, limit: int) -> ChangePage:
        rows = self.rows
        whole = after_revision >= rows.compacted
        first = bisect_right(rows.log, after_revision, key=lambda record: record.revision)
        found = rows.log[first : first + limit] if whole else ()
        return ChangePage(tuple(found), rows.head, rows.compacted)

    async def hosts_read(self, host_ids: Sequence[str]) -> dict[str, HostRow]:
        return {id_: self.rows.hosts[id_].row for id_ in host_ids if id_ in self.rows.hosts}

    async def host_view_read(self, host_id: str) -> View | None:
        rows, host = self.rows, self.rows.hosts.get(host_id)
        if host is None:
            return None
        wanted = tuple(
            (rows.instances.get(claim.instance_id), rows.claim_row(claim))
            for claim in rows.claims.values()
            if claim.host_id == host_id
        )
        return View(host_id, host.row.incarnation, rows.head, wanted, fenced=host.row.fenced)

    async def leases_renew(self, beats: Sequence[Beat]) -> list[BeatAnswer]:
        answers, heard = [], False
        for beat in beats:
            host_id, host = beat.host_id, self.rows.hosts.get(beat.host_id)
            live = (
                host is not None
                and host.row.incarnation == beat.incarnation
                and not host.row.fenced
            )
            if live:
                heard = True
                self.rows.leases[host_id] = (beat.incarnation, self._now_s(), beat.bus_silent)
            wanted = [
                self._told_of(claim) for claim in self.rows.claims.values()
                if claim.host_id == host_id
            ]  # fmt: skip
            answers.append(BeatAnswer(not live, max(wanted, default=0)))
        self._hear(APIS)
        if heard:
            self._hear(HOSTS)
        return answers

    def _told_of(self, claim: Claim) -> int:
        """The revision that its host must know. Nobody sends commands about one that leaves."""
        if claim.role is not ClaimRole.LEAVING:
            return claim.wanted_revision
        told = claim.incarnation == self.rows.hosts[claim.host_id].row.incarnation
        return self.rows.head if claim.discard or not told else claim.wanted_revision

    def _hear(self, road: int) -> None:
        now_s = self._now_s()
        since_s, last_s = self.rows.roads.get(road, (now_s, now_s))
        since_s = now_s if now_s - last_s > gap_s(LEASE_S) else since_s
        self.rows.roads[road] = (since_s, now_s)

    async def leases_read(self) -> Leases:
        now_s = self._now_s()
        silent = await self.silences_read(list(self.rows.hosts))
        found = tuple(
            Lease(
                id_,
                host.row.state,
                host.row.fenced,
                silent.get(id_, math.inf),
                id_ in self.rows.leases and self.rows.leases[id_][2],
            )
            for id_, host in sorted(self.rows.hosts.items())
            if not host.row.deleted
        )
        roads = [self.rows.roads.get(road, (0.0, 0.0)) for road in (HOSTS, APIS)]
        return Leases(found, *(Road(now_s - since_s, now_s - last_s) for since_s, last_s in roads))

    async def silences_read(self, host_ids: Sequence[str]) -> dict[str, float]:
        leases, now_s = self.rows.leases, self._now_s()
        return {id_: now_s - leases[id_][1] for id_ in host_ids if id_ in leases}

    async def epochs_read(self, instance_ids: Sequence[str]) -> dict[str, int]:
        found = {}
        for id_ in instance_ids:
            row = self.rows.instances.get(id_)
            epochs = [claim.epoch for claim in self.rows.claims_of(id_)]
            found[id_] = max([*epochs, row.epoch if row else 0])
        return {id_: epoch for id_, epoch in found.items() if epoch > 0}

    async def requests_sweep(self, keep_s: float, limit: int) -> int:
        """The row of a batch goes only when none of its items is left."""
        rows, oldest_s = self.rows, self._now_s() - keep_s
        batches = {(p, c, m.split("#")[0], r) for p, c, m, r in rows.requests if "#" in m}
        old = [k for k, at_s in rows.requested_at_s.items() if at_s < oldest_s and k not in batches]
        for key in sorted(old, key=rows.requested_at_s.__getitem__)[:limit]:
            del rows.requests[key], rows.requested_at_s[key]
        return min(len(old), limit)

    async def operations_count(self) -> list[OperationCount]:
        now_s = self._now_s()
        alike: dict[tuple[OperationAction, OperationState, Phase], list[float]] = defaultdict(list)
        for id_ in self.rows.under_way.values():
            known = self.rows.operations[id_]
            what = (known.row.action, known.row.state, known.row.phase)
            alike[what].append(now_s - known.accepted_at_s)
        return [
            OperationCount(action, state, phase, len(ages), max(ages))
            for (action, state, phase), ages in alike.items()
        ]

    async def operations_take(self, limit: int, ahead_s: float = 0.0) -> list[Due]:
        now_s = self._now_s()
        unfinished = [self.rows.operations[id_] for id_ in self.rows.under_way.values()]
        due = [known for known in unfinished if known.look_again_at_s <= now_s + ahead_s]
        due.sort(key=lambda known: known.look_again_at_s)
        return [self._take(known, now_s) for known in due[:limit]]

    def _take(self, known: Operation, now_s: float) -> Due:
        row, age_s = known.row, now_s - known.accepted_at_s
        pause_s = USUAL_PACES.again(row.phase, age_s=age_s, looks=known.looks)
        pause_s *= self._rng.uniform(0.9, 1.0)
        overdue = known.deadline_at_s <= now_s
        look_at_s = now_s + pause_s
        if not overdue:
            look_at_s = min(look_at_s, known.deadline_at_s)
        taken = replace(known, looks=known.looks + 1, look_again_at_s=look_at_s)
        self.rows.operations[row.id] = taken
        return Due(row.id, row.resource_id, row.phase, taken.looks, age_s, overdue)
