"""Which items of a batch the store in memory refuses, as `commit_items` of PostgreSQL does.

Of several items for one thing only the first may be committed; the others are STALE, and the next
batch finds out what they are beside the first. Room and quotas are those of taking the items one by
one. Does not write anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from services.conductor.edges.store.commit import _WEIGHT
from services.conductor.edges.store.writes import entry_kind
from services.conductor.logic.items import ClaimAct, ClaimChange, Item, Refusal, Refused, RequestKey
from services.conductor.logic.quota import asked_of, excesses
from services.conductor.logic.rows import ProjectRow
from services.domain.kinds import ClaimRole
from services.domain.resources import NOTHING, QuotaAmounts, Resources
from tests.fakes.store_rows import Project, Rows, amounts, quota

ONCE = (ClaimAct.LEAVE, ClaimAct.REMOVE, ClaimAct.CONDEMN, ClaimAct.DISCARD)
Told = Iterator[tuple[int, Refused]]


class _Firsts:
    """Who was the first to want a thing."""

    def __init__(self) -> None:
        self._taken: set[Hashable] = set()

    def is_first(self, *thing: Hashable) -> bool:
        """Whether nobody wanted it before."""
        first = thing not in self._taken
        self._taken.add(thing)
        return first


def verdicts(rows: Rows, items: Sequence[Item], usual: QuotaAmounts) -> dict[int, Refused]:
    """The refused items by their places."""
    refused: dict[int, Refused] = {}
    for place, verdict in _told(rows, items):
        known = refused.get(place)
        if known is None or _WEIGHT[verdict.refusal] > _WEIGHT[known.refusal]:
            refused[place] = verdict
    _overdraw(rows, items, usual, refused)
    _fill(rows, items, refused)
    return refused


def _told(rows: Rows, items: Sequence[Item]) -> Told:
    yield from _projects(rows, items)
    yield from _instances(rows, items)
    yield from _operations(rows, items)
    yield from _claims(rows, items)
    yield from _hosts(rows, items)
    yield from _entries(rows, items)
    yield from _requests(rows, items)
    yield from _batches(rows, items)


def _projects(rows: Rows, items: Sequence[Item]) -> Told:
    firsts = _Firsts()
    news = Counter(i.instance.project_id for i in items if i.instance and _is_new(i))
    for place, item in enumerate(items):
        if (row := item.project) is None:
            continue
        known = rows.projects.get(row.id, Project(ProjectRow(row.id, "", 0.0)))
        first = firsts.is_first(row.id)
        # Those of this batch count at once, and are taken off again.
        using = known.used.instances + news[row.id]
        if not first or row.version != known.seen_version or (row.deleted and news[row.id]):
            yield place, Refused(Refusal.STALE, row.id)
        elif row.deleted and using:
            yield place, Refused(Refusal.NOT_EMPTY, row.id)


def _is_new(item: Item) -> bool:
    return item.instance is not None and item.instance.version == 0 and not item.instance.deleted


def _instances(rows: Rows, items: Sequence[Item]) -> Told:
    firsts = _Firsts()
    for place, item in enumerate(items):
        if (row := item.instance) is None:
            continue
        known = rows.instances.get(row.id)
        first = firsts.is_first("id", row.id)
        anew = known is None or known.name != row.name
        first_name = firsts.is_first("name", row.project_id, row.name, anew)
        taken_by = rows.names.get((row.project_id, row.name), row.id) if anew else row.id
        if taken_by != row.id:
            yield place, Refused(Refusal.NAME_TAKEN, taken_by)
        elif (
            (known.version if known else 0) != row.version or not first or (anew and not first_name)
        ):
            yield place, Refused(Refusal.STALE)


def _operations(rows: Rows, items: Sequence[Item]) -> Told:
    firsts = _Firsts()
    for place, item in enumerate(items):
        for row in item.operations:
            known = rows.operations.get(row.id)
            version = known.row.version if known else 0
            if not firsts.is_first(row.id) or version != row.version:
                yield place, Refused(Refusal.STALE)


def _claims(rows: Rows, items: Sequence[Item]) -> Told:  # noqa: C901  # as the SQL has it
    firsts = _Firsts()
    observed: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for place, item in enumerate(items):
        for change in item.claims:
            host = rows.hosts.get(change.host_id)
            if change.host_edition and (
                host is None or host.row.seen_edition != change.host_edition
            ):
                yield place, Refused(Refusal.STALE)
            if change.act is ClaimAct.ADD:
                continue
            key = (change.instance_id, change.epoch)
            claim = rows.claims.get(key)
            if change.act is ClaimAct.CONDEMN:
                if claim is not None or (host is not None and host.row.deleted):
                    yield place, Refused(Refusal.STALE)
            elif claim is None or claim.host_id != change.host_id:
                yield place, Refused(Refusal.NO_CLAIM)
            if change.act in ONCE and not firsts.is_first(key):
                yield place, Refused(Refusal.STALE)
            if change.act is ClaimAct.OBSERVE:
                observed[key].append((-change.sequence, place))
                yield from _observed(rows, place, change)
    for seen in observed.values():
        for _, place in sorted(seen)[1:]:
            yield place, Refused(Refusal.DUPLICATE)


def _observed(rows: Rows, place: int, change: ClaimChange) -> Told:
    host = rows.hosts.get(change.host_id)
    if host is None:
        return
    if host.row.incarnation != change.incarnation or host.row.fenced:
        yield place, Refused(Refusal.SUPERSEDED)
        return
    claim = rows.claims.get((change.instance_id, change.epoch))
    number = (change.incarnation, change.sequence)
    if claim is not None and (claim.incarnation, claim.sequence) >= number:
        yield place, Refused(Refusal.DUPLICATE)


def _hosts(rows: Rows, items: Sequence[Item]) -> Told:
    firsts = _Firsts()
    for place, item in enumerate(items):
        if (row := item.host) is not None:
            known = rows.hosts.get(row.id)
            edition = known.row.seen_edition if known else 0
            if not firsts.is_first(row.id) or edition != row.seen_edition:
                yield place, Refused(Refusal.STALE)
            if row.deleted and any(
                claim.host_id == row.id and claim.role is not ClaimRole.LEAVING
                for claim in rows.claims.values()
            ):
                yield place, Refused(Refusal.NOT_EMPTY)


def _entries(rows: Rows, items: Sequence[Item]) -> Told:
    firsts = _Firsts()
    living = {
        (kind, "" if kind.name == "FLAVOR" else getattr(row, "project_id", ""), row.name): row.id
        for (kind, _), row in rows.catalog.items()
        if not row.deleted
    }
    for place, item in enumerate(items):
        if (row := item.entry) is None:
            continue
        kind = entry_kind(row)
        named = (kind, getattr(row, "project_id", ""), row.name)
        known = rows.catalog.get((kind, row.id))
        if not firsts.is_first(kind, row.id) or (known.version if known else 0) != row.version:
            yield place, Refused(Refusal.STALE)
        if row.version == 0:
            taken_by = living.get(named, row.id)
            if taken_by != row.id:
                yield place, Refused(Refusal.NAME_TAKEN, taken_by)
            if not firsts.is_first("name", *named):
                yield place, Refused(Refusal.STALE)


def request_key(key: RequestKey) -> tuple[str, str, str, str]:
    """Under what a request is remembered."""
    return (key.project_id, key.caller, key.method, key.request_id)


def _requests(rows: Rows, items: Sequence[Item]) -> Told:
    firsts = _Firsts()
    for place, item in enumerate(items):
        if (key := item.request) is None:
            continue
        known = rows.requests.get(request_key(key))
        if known is not None:
            same = known.fingerprint == key.fingerprint
            refusal = Refusal.REPLAYED if same else Refusal.REQUEST_ID_REUSED
            yield place, Refused(refusal, known.resource_id, known.operation_id)
        if not firsts.is_first(request_key(key)):
            yield place, Refused(Refusal.STALE)


def _batches(rows: Rows, items: Sequence[Item]) -> Told:
    begun: dict[Hashable, bytes] = {}
    for place, item in enumerate(items):
        if item.request is None or not item.request.batch:
            continue
        key = item.request.of_batch()
        known = rows.requests.get(request_key(key))
        if known is not None and known.fingerprint != key.fingerprint:
            yield place, Refused(Refusal.REQUEST_ID_REUSED)
        if begun.setdefault(request_key(key), key.fingerprint) != key.fingerprint:
            yield place, Refused(Refusal.STALE)


def _overdraw(
    rows: Rows, items: Sequence[Item], usual: QuotaAmounts, refused: dict[int, Refused]
) -> None:
    used: dict[str, QuotaAmounts] = {}
    for place, item in enumerate(items):
        row = item.instance
        if row is None or place in refused or not _is_new(item):
            continue
        known = rows.projects.get(row.project_id, Project(ProjectRow(row.project_id, "", 0.0)))
        before = used.get(row.project_id, known.used)
        asked = asked_of(row.resources)
        if excesses(known.row.limits or usual, before, asked):
            told = known.row if not known.row.deleted else ProjectRow(row.project_id, "", 0.0)
            refused[place] = Refused(
                Refusal.NO_QUOTA,
                row.project_id,
                project=replace(told, limits=known.row.limits, used=before, revision=0),
            )
        else:
            summed = (a + b for a, b in zip(quota(before), quota(asked), strict=True))
            used[row.project_id] = QuotaAmounts(*summed)


def _fill(rows: Rows, items: Sequence[Item], refused: dict[int, Refused]) -> None:
    used: dict[str, Resources] = {}
    for place, item in enumerate(items):
        if place in refused:
            continue
        beside = dict(used)
        for change in item.claims:
            if change.act is ClaimAct.ADD:
                host = rows.hosts.get(change.host_id)
                before = beside.get(change.host_id, host.used if host else NOTHING)
                after = plus(before, change.resources)
                lives = host is not None and not host.row.deleted
                target = host.row.target if host and lives else Resources(-1, -1, -1)
                if any(a > t for a, t in zip(amounts(after), amounts(target), strict=True)):
                    refused[place] = Refused(Refusal.NO_ROOM)
                    break
                beside[change.host_id] = after
        else:
            used = beside


def plus(one: Resources, other: Resources, sign: int = 1) -> Resources:
    """The sum, or the difference."""
    pairs = zip(amounts(one), amounts(other), strict=True)
    return Resources(*(a + sign * b for a, b in pairs))
