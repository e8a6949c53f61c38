"""Which fault comes when: dealt from a shuffled deck by seed, so that each kind comes before any
comes twice. Owns the deck. Does not know how a fault is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

SERVICES = ("api", "scheduler", "conductor", "compute", "nats", "postgres")
DISKS = ("hosts", "database")
LINKS = ("front", "ingress", "conductor", "database")
BUS = "bus"
TARGETS = (*SERVICES, "network", "disk", "clock")
WHILE_UNDECIDED = "with a scheduler that stood still"
# Each fault takes its turn within this time, so that the mean is surely under 5 s.
EVERY_S = (2.0, 3.8)


@dataclass(frozen=True, slots=True)
class Fault:
    """`part` says more of the target: which link, disk or direction. Lasts `lasts_s` at most."""

    at_s: float
    target: str
    kind: str
    part: str
    lasts_s: float


KINDS = (
    *((service, kind, "") for service in SERVICES for kind in ("kill", "pause", "restart")),
    # What waits for a decision then is known to rows alone.
    ("conductor", "kill", WHILE_UNDECIDED),
    *(("network", kind, link) for link in LINKS for kind in ("half-open", "mute", "stall")),
    # Between the bus and all its clients at once.
    *(("network", kind, BUS) for kind in ("half-open", "mute")),
    *(("disk", "fill", disk) for disk in DISKS),
    ("clock", "shift", "+600"),
    ("clock", "shift", "-600"),
)


def faults(seed: int, minutes: float) -> list[Fault]:
    """The plan of a run: times in seconds from the first one's earliest moment."""
    random = Random(seed)
    planned: list[Fault] = []
    at_s = 0.0
    for target, kind, part in _dealt(random):
        at_s += random.uniform(*EVERY_S)
        if at_s >= minutes * 60:
            return planned
        at_once = kind in {"kill", "restart"} and not part
        lasts_s = 0.0 if at_once else random.uniform(1.0, 8.0)
        planned.append(Fault(at_s, target, kind, part, lasts_s))
    return planned


def _dealt(random: Random) -> Iterator[tuple[str, str, str]]:
    """All kinds again and again; each deck begins with one of each target, so that a short run
    hits them all.
    """
    for _ in itertools.count():
        deck = list(KINDS)
        random.shuffle(deck)
        first = {target: place for place, (target, *_) in reversed(list(enumerate(deck)))}
        ahead = sorted(first.values())
        yield from (deck[place] for place in ahead)
        yield from (card for place, card in enumerate(deck) if place not in ahead)
