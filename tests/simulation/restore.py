"""A database that is set back to a backup while hosts, schedulers and api run on, and what holds
after it: watchers are told, unknown guests stay, and everything ends.

What was answered since the backup may be lost, so of the history only what came after is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.domain.instance import Task
from services.domain.kinds import ClaimRole
from tests.checkers.checks import CHECKERS
from tests.checkers.history import History, HostEvent, Mark, Row, Seen, Sign, What
from tests.fakes.store_rows import Rows
from tests.simulation.clients import Work
from tests.simulation.database import ABOVE
from tests.simulation.world import World

JUDGES = (
    "I2 room", "I4 ended creates", "I5 held by the dead", "I7 repeated requests",
    "I12 whole streams", "I13 same state", "I14 legal moves", "I14 agreed rows", "I15 quotas",
    "I22 ended operations", "I23 told reasons", "I24 own project",
)  # fmt: skip
OF_GUESTS = frozenset(
    f"DIFFERENCE_KIND_{name}"
    for name in ("CLAIM_WITHOUT_GUEST", "GUEST_WITHOUT_CLAIM", "GUEST_EPOCH_OLDER")
)
ANEW = (Sign.BEGUN, Sign.COMPACTED)


# Host, instance and epoch of a guest.
Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Restored:
    """When it was, how much had been seen by then, and which guests it made `strangers`: those of
    them that were settled and whose instances the backup does not know are `unknown`.
    """

    at_s: float
    seen: int
    unknown: frozenset[Place]
    strangers: frozenset[Place]


class Restorer:
    """Makes a backup and goes back to it, once, each at a time of the seed."""

    def __init__(self, world: World, work: Work) -> None:
        self._world = world
        self._work = work
        self._rng = world.draws("restore")

    async def live(self) -> Restored:
        """Until it is done."""
        world = self._world
        await asyncio.sleep(self._rng.uniform(4.0, 15.0))
        kept = world.database.keep()
        await asyncio.sleep(self._rng.uniform(3.0, 20.0))
        for slot in world.conductors:
            world.kill(slot)
            world.start_in(slot, self._rng.uniform(0.3, 3.0))
        strangers = {place for place in _guests(world) if place[1:] not in kept.claims}
        unknown = {place for place in strangers if _is_unknown(world.store.rows, kept, place)}
        world.database.set_back()
        seen = len(self._work.seen)
        return Restored(world.loop.time(), seen, frozenset(unknown), frozenset(strangers))


def _guests(world: World) -> Iterator[Place]:
    for host_id, machine in world.machines.items():
        for claim in machine.guests:
            yield host_id, *claim


def _is_unknown(rows: Rows, kept: Rows, place: Place) -> bool:
    """Nobody had asked for its end, and the backup knows nothing of its instance."""
    claim, row = rows.claims.get(place[1:]), rows.instances.get(place[1])
    settled = row is not None and row.standing.task is Task.NONE
    held = claim is not None and claim.role is ClaimRole.HOLDER
    return settled and held and place[1] not in kept.instances


def judged(history: History, restored: Restored) -> list[str]:
    """What is broken after the restore."""
    calls = [call for call in history.calls if call.invoked_s > restored.at_s]
    guests = [{**g, "quarantined": _place(g) in restored.strangers} for g in history.dump.guests]
    dump, seen = replace(history.dump, guests=guests), _told_later(history, restored)
    later = replace(history, calls=calls, seen=seen, host_events=[], dump=dump)
    wrongs = [f"{one.invariant}: {one.text}" for name in JUDGES for one in CHECKERS[name](later)]
    return [*wrongs, *_touched(history, restored), *_told_at_last(history)]


def _told_at_last(history: History) -> Iterator[str]:
    """The last audit tells of guests and claims of the history before, and of nothing else: of
    guests whose claims the backup does not have, also such as were made after the restore by a word
    from before it, and of claims whose guests were erased since the backup.
    """
    for found in history.differences:
        if found["kind"] not in OF_GUESTS or int(found["epoch"]) > ABOVE:
            yield f"the audit tells {dict(found)}"


def _place(guest: Row) -> Place:
    return str(guest["host_id"]), str(guest["instance_id"]), int(guest["epoch"])


def _told_later(history: History, restored: Restored) -> list[Seen | Mark]:
    """What each watcher was told from where it began anew; of one that never did, all of it."""
    rest = history.seen[restored.seen :]
    begun: set[str] = set()
    anew = {one.watcher for one in rest if isinstance(one, Mark) and one.sign in ANEW}
    found: list[Seen | Mark] = []
    for one in rest:
        if isinstance(one, Mark) and one.sign in ANEW:
            begun.add(one.watcher)
        if one.watcher in begun or one.watcher not in anew:
            found.append(one)
    return found


def _touched(history: History, restored: Restored) -> Iterator[str]:
    """A guest that the database does not know any more is left as it is."""
    there = {_place(guest) for guest in history.dump.guests}
    for place in sorted(restored.unknown - there):
        yield f"quarantine: guest {place} is gone, which the database does not know"
    for event in history.host_events:
        if _is_start_of_unknown(event, restored):
            yield f"quarantine: {event} of a guest that the database does not know"


def _is_start_of_unknown(event: HostEvent, restored: Restored) -> bool:
    place = (event.host_id, event.instance_id, event.epoch)
    return (
        place in restored.unknown
        and event.at_s > restored.at_s
        and event.what in (What.STARTED, What.PREPARED)
    )
