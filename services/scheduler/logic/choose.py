"""Hosts for all waiting requests in one go.

Requests are grouped by shape, in the order in which the shapes first appear; each group costs a
fixed number of array operations, whatever the number of hosts. Every choice is debited from the
fleet at once, so that one batch never promises more than the fleet shows. The same fleet and
requests give the same answer; equally good hosts are told apart by a hash of the instance, so that
replicas which know the same fleet do not all run to the same host. Does not know whether the fleet
is new enough for a refusal: the flow does.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.scheduler.logic.explain import rejections_of
from services.scheduler.logic.filters import FILTERS
from services.scheduler.logic.fleet import (
    BoolArray,
    Fleet,
    HashArray,
    Hosts,
    IntArray,
    amounts_of,
    hash_of,
)
from services.scheduler.logic.request import Outcome, Placed, Refused, Request, Shape
from services.scheduler.logic.shares import TIE, Scores, share_out
from services.scheduler.logic.weighers import Weights, weigh

RUNNERS_UP = 3
ROOM_MAX = 1 << 40
FALL_MIN = 1e-14


def choose(
    fleet: Fleet, requests: Sequence[Request], *, weights: Weights, now_s: float
) -> list[Outcome]:
    """One outcome per request, in order; what was chosen is debited until `now_s` + DEBIT_S.

    An instance that asks again gives its earlier promise back first. Raises ValueError if one
    stands in the batch twice.
    """
    if len({request.instance_id for request in requests}) != len(requests):
        raise ValueError("an instance stands in the batch twice")
    fleet.debit_expire(now_s)
    groups: dict[Shape, list[Request]] = {}
    for request in requests:
        fleet.debit_release(request.instance_id)
        groups.setdefault(request.shape, []).append(request)
    outcomes: dict[str, Outcome] = {}
    for shape, group in groups.items():
        for outcome in _place_group(fleet, shape, group, weights=weights, now_s=now_s):
            outcomes[outcome.request.instance_id] = outcome
    return [outcomes[request.instance_id] for request in requests]


def _place_group(
    fleet: Fleet, shape: Shape, group: Sequence[Request], *, weights: Weights, now_s: float
) -> list[Outcome]:
    masks = _masks(fleet.hosts, shape)
    fitting = np.flatnonzero(np.logical_and.reduce(masks))
    asked = amounts_of(shape.resources)
    near, scores = _scores(fleet.hosts, fitting, asked=asked, weights=weights, wanted=len(group))
    scores = replace(scores, order=_mixed(scores.order, hash_of(group[0].instance_id)))
    shares = share_out(scores, len(group))
    slots = np.repeat(near, shares)
    placed, refused = group[: len(slots)], group[len(slots) :]
    fleet.debit_add(
        [request.instance_id for request in placed],
        slots,
        resources=shape.resources,
        now_s=now_s,
    )
    best = [fleet.ids[slot] for slot in near[_best(scores, shares)].tolist()]
    rejections = rejections_of(masks)
    outcomes: list[Outcome] = [
        Placed(request, host_id, _others(best, host_id), len(fleet), rejections)
        for request, host_id in zip(placed, [fleet.ids[s] for s in slots.tolist()], strict=True)
    ]
    return outcomes + (_refusals(fleet, shape, refused) if refused else [])


def _refusals(fleet: Fleet, shape: Shape, refused: Sequence[Request]) -> list[Outcome]:
    """Says what stood in the way after the others of the batch had been placed."""
    masks = _masks(fleet.hosts, shape)
    ledger = replace(fleet.hosts, taken=fleet.hosts.used)
    only_promised = bool(np.logical_and.reduce(_masks(ledger, shape)).any())
    rejections = rejections_of(masks)
    return [Refused(request, len(fleet), rejections, only_promised) for request in refused]


def _masks(hosts: Hosts, shape: Shape) -> list[BoolArray]:
    return [passes(hosts, shape) for _, passes in FILTERS]


def _scores(
    hosts: Hosts, fitting: IntArray, *, asked: IntArray, weights: Weights, wanted: int
) -> tuple[IntArray, Scores]:
    """The slots of those fitting hosts that can be chosen or be runners-up, and their scores.

    Every fitting host has room for one, so that no host outside the first `wanted` and a few is
    ever needed.
    """
    column = asked[:, np.newaxis]
    first = weigh(hosts.target, hosts.taken + column, weights)[fitting]
    few = wanted + RUNNERS_UP + 1
    if len(fitting) > few:
        near = np.flatnonzero(first >= np.partition(first, -few)[-few] - TIE)
        fitting, first = fitting[near], first[near]
    target, taken = hosts.target[:, fitting], hosts.taken[:, fitting]
    fall = first - weigh(target, taken + 2 * column, weights)
    return fitting, Scores(
        first=first,
        # Rounding errors would make an even score look like one that falls.
        fall=np.where(np.abs(fall) < FALL_MIN, 0.0, fall),
        room=((target - taken)[asked > 0] // column[asked > 0]).min(axis=0, initial=ROOM_MAX),
        order=hosts.hashes[fitting],
    )


def _mixed(hashes: HashArray, seed: int) -> HashArray:
    """Another order of the hosts for each seed: the end of SplitMix64 (Steele, Lea, Flood 2014)."""
    mixed = hashes ^ np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _best(scores: Scores, shares: IntArray) -> IntArray:
    """The best few positions that could take one more after `shares` were placed, best first."""
    left = np.flatnonzero(scores.room > shares)
    following = scores.first[left] - scores.fall[left] * shares[left]
    few = RUNNERS_UP + 1
    if len(left) > few:
        least = np.partition(following, -few)[-few]
        near = np.flatnonzero(following >= least - TIE)
        left, following = left[near], following[near]
    order = np.lexsort((scores.order[left], -np.round(following / TIE)))
    return left[order[:few]]


def _others(best: Sequence[str], host_id: str) -> tuple[str, ...]:
    return tuple(other for other in best if other != host_id)[:RUNNERS_UP]
