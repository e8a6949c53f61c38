"""What hosts and projects have and use: sums that hold at every commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from services.domain.instance import State
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.resources import Resources
from tests.checkers.history import Row
from tests.checkers.past import Change, Past, exceeds, resources_of, standing_of, total

PLACED = (State.BUILDING, State.ACTIVE, State.STOPPED, State.PAUSED, State.SUSPENDED)


def room(past: Past) -> Iterator[str]:
    """I2: no commit raises what is used of a host above what it has; what its placed instances
    take is within what is used; at the end used is the sum of its claims.
    """
    used: dict[str, Resources] = {}
    placed: dict[str, str] = {}
    taken: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for change in past.changes:
        if change.kind is ResourceKind.INSTANCE:
            _move(past, change, placed, taken)
        elif change.kind is ResourceKind.HOST and change.ledger:
            numbers = [number or 0 for number in change.ledger]
            target, now = Resources(*numbers[:3]), Resources(*numbers[3:6])
            before = used.get(change.id, Resources(0, 0, 0))
            if _raised_above(before, now, target):
                yield f"{change.id} at {change.revision}: {now} of {target} used"
            if exceeds(Resources(*taken[change.id]), now):
                yield f"{change.id} at {change.revision}: its instances take more than {now}"
            used[change.id] = now
    yield from _sums(past)


def _raised_above(before: Resources, now: Resources, target: Resources) -> bool:
    pairs = zip(_amounts(before), _amounts(now), _amounts(target), strict=True)
    return any(new > limit and new > old for old, new, limit in pairs)


def _amounts(one: Resources) -> tuple[int, int, int]:
    return (one.vcpus, one.memory_mib, one.disk_gib)


def _move(past: Past, change: Change, placed: dict[str, str], taken: dict[str, list[int]]) -> None:
    row = past.instances.get(change.id)
    if row is None or change.standing is None:
        return
    here = change.host_id if change.standing.state in PLACED else ""
    there = placed.get(change.id, "")
    if here == there:
        return
    amounts = _amounts(resources_of(row))
    for host_id, sign in ((there, -1), (here, 1)):
        if host_id:
            taken[host_id] = [a + sign * b for a, b in zip(taken[host_id], amounts, strict=True)]
    placed[change.id] = here


def _sums(past: Past) -> Iterator[str]:
    claims: dict[str, list[Row]] = defaultdict(list)
    for claim in past.claims.values():
        claims[str(claim["host_id"])].append(claim)
    for host_id, host in past.hosts.items():
        summed, used = total(claims[host_id]), resources_of(host, "used_")
        if summed != used or len(claims[host_id]) != int(host["claim_count"]):
            yield f"{host_id} has {used} used, its claims are {summed}"


def quotas(past: Past) -> Iterator[str]:
    """I15: a project uses what its living instances take, and no create passed a limit of its own
    that stood then.
    """
    living: dict[str, list[Row]] = defaultdict(list)
    for row in past.instances.values():
        if standing_of(row).state is not State.DELETED:
            living[str(row["project_id"])].append(row)
    known = {str(project["id"]): project for project in past.dump.projects}
    for project_id, project in known.items():
        summed = (len(living[project_id]), *_amounts(total(living[project_id])))
        used = (int(project["used_instances"]), *_amounts(resources_of(project, "used_")))
        if summed != used:
            yield f"project {project_id} uses {summed}, the row says {used}"
    for project_id in living.keys() - known.keys():
        yield f"project {project_id} has instances and no row"
    yield from _limits(past)


def _limits(past: Past) -> Iterator[str]:
    limits: dict[str, tuple[int | None, ...]] = {}
    used: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    alive: set[str] = set()
    for change in past.changes:
        if change.kind is ResourceKind.PROJECT:
            limits[change.id] = change.ledger[:4]
        row = past.instances.get(change.id) if change.kind is ResourceKind.INSTANCE else None
        if row is None or change.deleted == (change.id not in alive):
            continue
        sign = -1 if change.deleted else 1
        alive ^= {change.id}
        asked = (1, *_amounts(resources_of(row)))
        now = [a + sign * b for a, b in zip(used[change.project_id], asked, strict=True)]
        used[change.project_id] = now
        own = limits.get(change.project_id, ())
        if sign > 0 and any(m is not None and 0 <= m < n for n, m in zip(now, own, strict=False)):
            yield f"project {change.project_id} at {change.revision}: {now} above {own}"


def held_by_the_dead(past: Past) -> Iterator[str]:
    """I5: what is ERROR or DELETED holds nothing: no guest, and no claim but one that leaves a host
    which is not there to be told. What an evacuation left is kept until the instance is deleted.
    """
    for row in past.instances.values():
        state = standing_of(row).state
        if state not in (State.ERROR, State.DELETED):
            continue
        for (instance_id, epoch), claim in past.claims_of.get(str(row["id"]), []):
            leaves = int(claim["role"]) == ClaimRole.LEAVING
            if leaves and not claim.get("discard", True) and state is State.ERROR:
                continue
            if not leaves or past.is_up(str(claim["host_id"])):
                yield f"{instance_id} is {state.name} and has claim {epoch}"
    gone = {i for i, r in past.instances.items() if standing_of(r).state is State.DELETED}
    for (instance_id, epoch), guests in past.guests.items():
        for guest in guests:
            if guest.get("quarantined"):
                continue
            if instance_id in gone and past.is_up(str(guest["host_id"])):
                yield f"{instance_id} is DELETED and has a guest {epoch} on {guest['host_id']}"
