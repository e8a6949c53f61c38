"""Where guests are: one host at a time, under a claim, as large as claimed, as the rows say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from services.domain.instance import State, Task
from services.domain.kinds import ClaimRole, ResourceKind
from tests.checkers.history import HostEvent, Row, What
from tests.checkers.past import (
    Past,
    exceeds,
    is_running,
    resources_of,
    resting,
    standing_of,
)

SETTLED = (State.ACTIVE, State.STOPPED, State.PAUSED, State.SUSPENDED)


def one_host(past: Past) -> Iterator[str]:
    """I1: no two guests of one instance run at the same time."""
    for instance_id, events in past.events.items():
        running: set[tuple[str, int]] = set()
        for event in events:
            place = (event.host_id, event.epoch)
            if event.what is What.STARTED:
                others = running - {place}
                if others:
                    yield f"{instance_id} starts on {place} while it runs on {sorted(others)}"
                running.add(place)
            elif event.what in (What.STOPPED, What.ERASED):
                running.discard(place)
    for instance_id, places in _running_at_the_end(past).items():
        if len(places) > 1:
            yield f"{instance_id} runs at the end on {sorted(places)}"


def _running_at_the_end(past: Past) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for (instance_id, epoch), guests in past.guests.items():
        found[instance_id] += [(str(g["host_id"]), epoch) for g in guests if is_running(g)]
    return found


def claimed_guests(past: Past) -> Iterator[str]:
    """I3: a guest on a host has a claim there and takes no more than the claim."""
    for key, guests in past.guests.items():
        claim = past.claims.get(key)
        for guest in guests:
            if guest.get("quarantined"):
                continue
            where = f"{key} on {guest['host_id']}"
            if claim is None or str(claim["host_id"]) != str(guest["host_id"]):
                yield f"guest {where} has no claim"
            elif int(claim["role"]) != ClaimRole.LEAVING and exceeds(
                resources_of(guest), resources_of(claim)
            ):
                yield f"guest {where} takes more than its claim"


def true_rows(past: Past) -> Iterator[str]:
    """I9: a settled instance is what its host has: ACTIVE runs, the others are there and do not,
    each in its own way, under the epoch of the row; no observation of an older claim or agent
    stands in its place.
    """
    for row in past.instances.values():
        standing = standing_of(row)
        if standing.task is not Task.NONE or standing.state not in SETTLED:
            continue
        key = (str(row["id"]), int(row["epoch"]))
        guest = _guest_at(past, key, str(row["host_id"]))
        if key not in past.claims:
            yield f"instance {key} is {standing.state.name} without a claim"
        elif guest is None:
            if past.is_up(str(row["host_id"])):
                yield f"instance {key} is {standing.state.name} and no guest is there"
        elif resting(guest) is not standing.state and past.is_up(str(row["host_id"])):
            yield f"instance {key} is {standing.state.name}, its guest is {resting(guest).name}"


def _guest_at(past: Past, key: tuple[str, int], host_id: str) -> Row | None:
    return next((g for g in past.guests.get(key, []) if str(g["host_id"]) == host_id), None)


def fenced_starts(past: Past) -> Iterator[str]:
    """I20: a host starts a guest only under an epoch that was committed for that host, and none of
    an older epoch once a newer one has run anywhere (I10).
    """
    granted: dict[tuple[str, int], str] = {}
    for change in past.changes:
        if change.kind is ResourceKind.INSTANCE and change.epoch == change.revision:
            granted[change.id, change.epoch] = change.host_id
    whole = bool(past.changes) and past.changes[0].revision == 1
    for instance_id, events in past.events.items():
        newest = 0
        for event in events:
            if event.what is not What.STARTED:
                continue
            if event.epoch < newest:
                yield f"{instance_id} starts under {event.epoch} after {newest} ran"
            newest = max(newest, event.epoch)
            if whole and not _is_granted(granted, event):
                yield f"{instance_id} starts on {event.host_id} under {event.epoch}: not granted"


def _is_granted(granted: dict[tuple[str, int], str], event: HostEvent) -> bool:
    host_id = granted.get((event.instance_id, event.epoch))
    return host_id is not None and host_id in ("", event.host_id)


def single_effects(past: Past) -> Iterator[str]:
    """I8: a guest is made once for each claim, and started no more often than its instance had
    generations and ends that nobody asked for.
    """
    for instance_id, events in past.events.items():
        there: set[tuple[str, int]] = set()
        for event in events:
            place = (event.host_id, event.epoch)
            if event.what is What.PREPARED:
                if place in there:
                    yield f"{instance_id} is made twice on {place}"
                there.add(place)
            elif event.what is What.ERASED:
                there.discard(place)
        row = past.instances.get(instance_id)
        if row is None:
            continue
        starts = sum(event.what is What.STARTED for event in events)
        epochs = len({event.epoch for event in events})
        stops = sum(event.what is What.STOPPED for event in events)
        if starts > max(int(row["generation"]) + epochs - 1, stops + epochs):
            yield f"{instance_id} started {starts} times in {row['generation']} generations"
