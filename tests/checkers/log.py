"""The change log: no gaps, legal moves, and rows that are its last word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from services.domain.instance import TABLE, Event, Standing, State, Task
from services.domain.kinds import ResourceKind
from tests.checkers.history import Row
from tests.checkers.past import Past, standing_of

# A new history begins so far above the old one. Source: MECHANICS E3.
LEAP = 1 << 39
FIRST = Standing(State.REQUESTED, Task.SCHEDULING)
MOVES = {(before, after) for (before, _), after in TABLE.items()}
# One commit may hold two events (a delete of what no host has, a guest that ends as it begins), but
# a claim is a commit of its own.
MOVES |= {
    (before, last)
    for (before, event), after in TABLE.items()
    if event is not Event.CLAIMED
    for (middle, _), last in TABLE.items()
    if middle == after
}


def gapless(past: Past) -> Iterator[str]:
    """I12: revisions follow each other without a gap, inside of one history; and the versions of
    each thing do.
    """
    before = 0
    for change in past.changes:
        if before and change.revision != before + 1 and change.revision - before < LEAP:
            yield f"after revision {before} comes {change.revision}"
        before = change.revision
    for (kind, id_), versions in past.versions.items():
        # Hosts' and projects' versions go on when they are made known again.
        for one, following in pairwise(versions):
            if following.version != one.version + 1:
                yield f"{kind.name} {id_}: after version {one.version} comes {following.version}"


def last_words(past: Past) -> Iterator[str]:
    """I12: each row is as the log last said: version and revision."""
    kept: dict[ResourceKind, Mapping[str, Row]] = {
        ResourceKind.INSTANCE: past.instances,
        ResourceKind.OPERATION: past.operations,
        ResourceKind.HOST: past.hosts,
    }
    for kind, rows in kept.items():
        for id_, row in rows.items():
            versions = past.versions.get((kind, id_), [])
            if not versions:
                if past.changes and int(row["revision"]) >= past.changes[0].revision:
                    yield f"{kind.name} {id_} of revision {row['revision']} is not in the log"
                continue
            last = versions[-1]
            if (last.version, last.revision) != (int(row["version"]), int(row["revision"])):
                told = f"v{last.version} at {last.revision}"
                yield f"{kind.name} {id_} is v{row['version']} at {row['revision']}, told: {told}"


def legal_moves(past: Past) -> Iterator[str]:
    """I14: an instance begins as REQUESTED, moves as the table says, and DELETED is its end; a
    generation, an epoch never goes back.
    """
    for (kind, id_), versions in past.versions.items():
        if kind is not ResourceKind.INSTANCE:
            continue
        if versions[0].version == 1 and versions[0].standing not in (None, FIRST):
            yield f"{id_} begins as {versions[0].standing}"
        for one, following in pairwise(versions):
            if one.standing is None or following.standing is None:
                continue
            move = (one.standing, following.standing)
            if one.deleted:
                yield f"{id_} changes at {following.revision} after its end"
            elif move[0] != move[1] and move not in MOVES:
                yield f"{id_} goes from {_say(move[0])} to {_say(move[1])}"
            if following.generation < one.generation or 0 < following.epoch < one.epoch:
                yield f"{id_} goes back at {following.revision} in generation or epoch"


def _say(standing: Standing) -> str:
    return f"{standing.state.name}/{standing.task.name}"


def agreed_rows(past: Past) -> Iterator[str]:
    """I14: an instance's row stands where the log left it."""
    for id_, row in past.instances.items():
        versions = past.versions.get((ResourceKind.INSTANCE, id_), [])
        if versions and versions[-1].standing not in (None, standing_of(row)):
            yield f"{id_} stands at {_say(standing_of(row))}, not as told"
