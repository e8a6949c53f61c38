"""Which hosts are UP, DOWN or UNKNOWN, from how long they have been silent and who was heard.

    silent for less than a lease                                UP, UNKNOWN where its bus is silent
    longer, and fenced                                          DOWN
    longer, with more than a tenth and at least 3 hosts that    UNKNOWN
        fell silent within one lease of each other
    longer, and others were heard during a whole lease of it    DOWN
    longer, and nothing proves that it could be heard           UNKNOWN, DOWN where it was

All durations are by one clock, PostgreSQL's. Where one or two hosts are left it may be that no
other is there to be heard: the roads from api then prove that a sign of life would have come
through. A host that is DOWN already is none of them, nor of those of whom a tenth is taken.
Does not own what follows: only DOWN has consequences. Source: MECHANICS D5, ADR 0010.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.domain.kinds import HostState

LEASE_S = 45.0
MANY_MIN = 3
MANY_PERMILLE = 100
FEW_HOSTS = 2


@dataclass(frozen=True, slots=True)
class Beat:
    """A host's sign of life; `bus_silent` where no command would reach it."""

    host_id: str
    incarnation: int
    bus_silent: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A host with what is recorded of it, for how long it has given no sign of life, and whether
    the last one said that its bus is silent.
    """

    host_id: str
    state: HostState
    fenced: bool
    silent_s: float
    bus_silent: bool = False


@dataclass(frozen=True, slots=True)
class Road:
    """Signs of life of any sender: how long ago the newest stretch of them without a long gap
    began, and how long ago the last one came.
    """

    since_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Leases:
    """All hosts, and the signs of life of hosts and of api."""

    leases: tuple[Lease, ...]
    hosts: Road
    apis: Road


def gap_s(lease_s: float) -> float:
    """Signs of life with a longer pause between them prove nothing about it."""
    return lease_s / 2


def judged(found: Leases, lease_s: float) -> dict[str, HostState]:
    """The state of each host."""
    roads = [found.hosts]
    if _living(found.leases) <= FEW_HOSTS:
        roads.append(found.apis)
    many = _fell_together(found.leases, lease_s)
    return {one.host_id: _state(one, roads, many, lease_s=lease_s) for one in found.leases}


def _state(one: Lease, roads: Sequence[Road], many: set[str], *, lease_s: float) -> HostState:
    if one.fenced:
        return HostState.DOWN
    if one.silent_s <= lease_s:
        return HostState.UNKNOWN if one.bus_silent else HostState.UP
    if one.state is HostState.DOWN:
        return HostState.DOWN
    if one.host_id in many:
        return HostState.UNKNOWN
    proven = any(min(one.silent_s, road.since_s) - road.last_s > lease_s for road in roads)
    return HostState.DOWN if proven else HostState.UNKNOWN


def _living(leases: Sequence[Lease]) -> int:
    """How many hosts might be heard."""
    return sum(one.state is not HostState.DOWN and not one.fenced for one in leases)


def _fell_together(leases: Sequence[Lease], lease_s: float) -> set[str]:
    """Those whose silences began within one lease of each other and are too many. Who has missed
    a beat counts already: the first of many must not be DOWN before the others' leases lapse.
    """
    late = sorted(
        (one for one in leases if not one.fenced and one.silent_s > gap_s(lease_s)),
        key=lambda one: one.silent_s,
    )
    living = _living(leases)
    together: set[str] = set()
    first = marked = 0
    for last, one in enumerate(late):
        while one.silent_s - late[first].silent_s > lease_s:
            first += 1
        count = last - first + 1
        if count >= MANY_MIN and count * 1000 > living * MANY_PERMILLE:
            together |= {two.host_id for two in late[max(first, marked) : last + 1]}
            marked = last + 1
    return together
