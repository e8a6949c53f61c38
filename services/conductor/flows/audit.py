"""Compares all records with each other and with what hosts say, while everything goes on.

How it tells no untruth of a cloud at work: records that must agree are written in one commit, so
what is compared among them is read in one statement, a page at a time. What a host says is older
than the records beside it, so a difference with a host is only a suspicion at first. The host is
then asked for its guests, listed after the commit at which the suspicion arose, and only what is
found again in that list beside the same claim and version of the instance is suspected further;
twice so, and it is told. An epoch is given once and its claim ends only when its host has said
that nothing is left, so no work under way can look like this three times. A host that does not
answer is told as such. Changes nothing. Does not own what differs (logic/audit).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from services.conductor.flows.audit_ports import AuditReads
from services.conductor.flows.inventory import Inventorist
from services.conductor.logic import audit
from services.conductor.logic.audit import Difference
from services.conductor.logic.audit_facts import HostLook
from services.domain.errors import NoCapacity, NotFound
from services.domain.kinds import HostState

AUDITS_MAX = 4
RETRY_AFTER_S = 5.0
PAGE_MAX = 500
# Of a host and of a project all that it has is read in one statement.
OWNERS_MAX = 25
CONFIRMATIONS = 2
# One more than that for a host that greets meanwhile.
ROUNDS_MAX = 4
PAUSE_S = 1.0

Fact = TypeVar("Fact")
Place = TypeVar("Place")


@dataclass(frozen=True, slots=True)
class Compared:
    """How much was compared, by noun."""

    counts: Mapping[str, int]


Found = Sequence[Difference] | Compared


class Auditor:
    """Streams differences to a few at once. Between two looks at a host it lets `pause_s` pass, so
    that what is on the road arrives.
    """

    def __init__(
        self, reads: AuditReads, inventorist: Inventorist, pause_s: float = PAUSE_S
    ) -> None:
        self._reads = reads
        self._inventorist = inventorist
        self._pause_s = pause_s
        self._under_way = 0

    async def audit(self, host_id: str = "") -> AsyncGenerator[Found, None]:
        """Every difference, of one host or the whole cloud, then how much was compared. Raises
        NotFound (HOST_NOT_FOUND), NoCapacity (TOO_MANY_AUDITS), Unavailable.
        """
        if self._under_way >= AUDITS_MAX:
            raise NoCapacity(
                "TOO_MANY_AUDITS",
                f"{AUDITS_MAX} audits are under way, more at once there may not be",
                retry_after_s=RETRY_AFTER_S,
            )
        self._under_way += 1
        try:
            async with aclosing(self._audit(host_id)) as all_:
                async for found in all_:
                    yield found
        finally:
            self._under_way -= 1

    async def _audit(self, host_id: str) -> AsyncGenerator[Found, None]:
        counts: Counter[str] = Counter()
        if host_id:
            await self._known(host_id)
            ledgers = await self._reads.host_facts_read("", 1, host_id)
            yield list(audit.of_hosts(ledgers))
            yield await self._compared([host_id], counts)
        else:
            async with aclosing(self._everything(counts)) as all_:
                async for found in all_:
                    yield found
        yield Compared(counts)

    async def _known(self, host_id: str) -> None:
        if not await self._reads.host_looks_read([host_id]):
            raise NotFound(
                "HOST_NOT_FOUND", f"there is no host {host_id}", metadata={"id": host_id}
            )

    async def _everything(self, counts: Counter[str]) -> AsyncGenerator[Found, None]:
        reads = self._reads
        async for projects in _pages(reads.project_facts_read, "", lambda p: p.id, OWNERS_MAX):
            counts["projects"] += len(projects)
            yield list(audit.of_projects(projects))
        async for instances in _pages(reads.instance_facts_read, "", lambda i: i.id):
            counts["instances"] += len(instances)
            yield list(audit.of_instances(instances))
        pages = _pages(reads.claim_facts_read, ("", 0), lambda c: (c.instance_id, c.epoch))
        async for claims in pages:
            counts["claims"] += len(claims)
            yield list(audit.of_claims(claims))
        async for operations in _pages(reads.operation_facts_read, "", lambda o: o.resource_id):
            counts["operations"] += len(operations)
            yield list(audit.of_operations(operations))
        async for hosts in _pages(reads.host_facts_read, "", lambda h: h.id, OWNERS_MAX):
            yield list(audit.of_hosts(hosts))
            yield await self._compared([host.id for host in hosts], counts)

    async def _compared(self, ids: Sequence[str], counts: Counter[str]) -> list[Difference]:
        """What differs between these hosts' guests and the records."""
        counts["hosts"] += len(ids)
        told: list[Difference] = []
        suspected: dict[str, _Suspicion] = {}
        first = {look.host_id: look for look in await self._reads.host_looks_read(ids)}
        for look in first.values():
            counts["guests"] += sum(guest.power is not None for guest in look.guests)
            barred = audit.not_compared(look, asked=False)
            if barred is not None:
                told.append(barred)
            elif look.state is HostState.UP and (found := _suspicion(look)) is not None:
                suspected[look.host_id] = found
        for _ in range(ROUNDS_MAX):
            if not suspected:
                break
            revisions = {host_id: found.revision for host_id, found in suspected.items()}
            looks = await self._inventorist.looked_after(revisions)
            for host_id in revisions:
                before = suspected.pop(host_id)
                if host_id not in looks:
                    told += _silent(first[host_id])
                    continue
                sure, after = _again(looks[host_id], before)
                told += sure
                if after is not None:
                    suspected[host_id] = after
            if suspected:
                await asyncio.sleep(self._pause_s)
        return told


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """What was found of a host at `revision`, and how often again; None where its report was not of
    the live agent.
    """

    found: Sequence[Difference] | None
    revision: int
    times: int = 0


def _suspicion(look: HostLook) -> _Suspicion | None:
    if not look.is_fresh:
        return _Suspicion(None, look.head_revision)
    found = audit.of_look(look)
    return _Suspicion(found, look.head_revision) if found else None


def _again(look: HostLook, suspicion: _Suspicion) -> tuple[Sequence[Difference], _Suspicion | None]:
    """What to tell, and what to suspect further."""
    if suspicion.found is None:
        return (), _suspicion(look)
    before = {difference.suspicion for difference in suspicion.found}
    still = [found for found in audit.of_look(look) if found.suspicion in before]
    times = suspicion.times + 1
    if times >= CONFIRMATIONS or not still:
        return still, None
    return (), _Suspicion(still, look.head_revision, times)


def _silent(look: HostLook) -> list[Difference]:
    found = audit.not_compared(look, asked=True)
    return [found] if found is not None else []


async def _pages(
    read: Callable[[Place, int], Awaitable[Sequence[Fact]]],
    start: Place,
    place_of: Callable[[Fact], Place],
    limit: int = PAGE_MAX,
) -> AsyncIterator[Sequence[Fact]]:
    """All facts, a page in each snapshot. Ends with the first page that is not full."""
    after = start
    while True:
        page = await read(after, limit)
        yield page
        if len(page) < limit:
            return
        after = place_of(page[-1])
