"""Mutants: one guard of the simulated cloud taken out at a time, to see who notices.

Each is a context in which simulation runs; nothing of it is in the services. Those of real
processes and PostgreSQL are in `tests/chaos/mutants.py`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from services.conductor.logic.items import ClaimAct, Item, Record, Refusal, Refused
from services.domain.resources import Resources
from tests.checkers.checks import check
from tests.fakes.store import MemoryStore
from tests.fakes.store_rows import Rows
from tests.simulation.database import Database
from tests.simulation.machine import MachineDriver
from tests.simulation.restore import judged
from tests.simulation.run import Told, run_seed
from tests.simulation.world import Shape

BEYOND = 10_000_000.0
SOMETIMES = 5
# What it was given from beside it is replaced in it.
writes: Any = importlib.import_module("tests.fakes.store_writes")
evacuation: Any = importlib.import_module("services.conductor.logic.evacuation")
reads: Any = importlib.import_module("tests.fakes.store")
Mutant = Callable[[], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    """Something else in the place of a thing, for as long as the run takes."""
    kept = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _verdicts_without(
    forgiven: Callable[[Item, Refused], bool],
) -> Callable[..., dict[int, Refused]]:
    real = writes.verdicts

    def verdicts(rows: Rows, items: Sequence[Item], usual: Any) -> dict[int, Refused]:
        found = real(rows, items, usual)
        return {n: no for n, no in found.items() if not forgiven(items[n], no)}

    return verdicts


def ledger_unguarded() -> contextlib.AbstractContextManager[None]:
    """A claim is taken where there is no room, and no CHECK stands behind it."""
    lenient = _verdicts_without(lambda _, no: no.refusal is Refusal.NO_ROOM)
    return _instead(writes, "verdicts", lenient)


def fingerprint_ignored() -> contextlib.AbstractContextManager[None]:
    """A known request id is a replay, whatever its payload."""
    real = writes.verdicts

    def verdicts(rows: Rows, items: Sequence[Item], usual: Any) -> dict[int, Refused]:
        return {
            n: replace(no, refusal=Refusal.REPLAYED)
            if no.refusal is Refusal.REQUEST_ID_REUSED
            else no
            for n, no in real(rows, items, usual).items()
        }

    return _instead(writes, "verdicts", verdicts)


def stale_observation_accepted() -> contextlib.AbstractContextManager[None]:
    """What a host said before, or an agent that another has replaced, counts as new."""
    stale = (Refusal.DUPLICATE, Refusal.SUPERSEDED)
    return _instead(writes, "verdicts", _verdicts_without(lambda _, no: no.refusal in stale))


def record_left_out() -> contextlib.AbstractContextManager[None]:
    """One change of many is written and not logged, though it has its revision."""
    real, told = Rows.tell, iter(range(1, 1 << 30))

    def tell(self: Rows, record: Record, *, anew: bool = False) -> Record:
        record = real(self, record, anew=anew)
        if next(told) % 50 == 0:
            self.log[-1] = replace(self.log[-2], revision=record.revision)
        return record

    return _instead(Rows, "tell", tell)


def undo_skipped() -> contextlib.AbstractContextManager[None]:
    """A claim that shall go stays as it is: its guest's leavings and its room are nobody's."""
    real = MemoryStore._write_claims

    def write_claims(self: MemoryStore, item: Item) -> Any:
        undone = (ClaimAct.REMOVE, ClaimAct.LEAVE)
        return real(
            self, replace(item, claims=tuple(c for c in item.claims if c.act not in undone))
        )

    return _instead(MemoryStore, "_write_claims", write_claims)


def never_looked_at_again() -> contextlib.AbstractContextManager[None]:
    """An operation gets no look-again time: a lost message is lost for good."""
    real = MemoryStore._write_operations

    def write_operations(self: MemoryStore, item: Item, told: list[Record]) -> None:
        real(self, replace(item, look_again_s=BEYOND), told)

    return _instead(MemoryStore, "_write_operations", write_operations)


def counter_taken_first() -> contextlib.AbstractContextManager[None]:
    """A revision is taken before the rows are locked, so commits become visible in another order
    than that of their revisions: a list shows a head below which something is still to come.
    """
    real = reads.page_of

    def page_of(rows: Rows, query: Any, usual: Any) -> Any:
        page = real(rows, query, usual)
        seen = tuple(one for one in page.records if one.revision <= rows.head - SOMETIMES)
        return replace(page, records=seen)

    return _instead(reads, "page_of", page_of)


def epoch_unchecked() -> contextlib.AbstractContextManager[None]:
    """A guest is made under an older epoch than its claim's, and no host refuses."""
    real = MachineDriver.prepare_guest

    async def prepare_guest(self: Any, identity: Any, spec: Any, image: Any) -> None:
        await real(self, replace(identity, epoch=max(1, identity.epoch - 1)), spec, image)

    return _instead(MachineDriver, "prepare_guest", prepare_guest)


def evacuated_unfenced() -> contextlib.AbstractContextManager[None]:
    """An instance is built elsewhere though nobody says that its old host runs nothing."""
    return _instead(evacuation, "_alive", lambda *_: None)


def history_ignored() -> contextlib.AbstractContextManager[None]:
    """A database that was set back goes on under its old name, and counts on from there: either of
    the two, its history id and its leap, would be guard enough.
    """

    def set_back(self: Database) -> None:
        self.store.rows = self._kept.copy()

    return _instead(Database, "set_back", set_back)


# Where schedulers that do not know of each other's choices race for little room.
TIGHT = Shape(conductors=2, schedulers=3, hosts=1, capacity=Resources(3, 16384, 200))
# Hosts with much to say each.
TALKATIVE = Shape(hosts=2, capacity=Resources(12, 12_288, 150))
# Where the database is set back to a backup once.
RESTORED = Shape(restored=True)
SHAPES = {
    "history id ignored": RESTORED,
    "ledger's guards dropped": TIGHT,
    "stale observation accepted": TALKATIVE,
}

MUTANTS: dict[str, Mutant] = {
    "epoch check off": epoch_unchecked,
    "ledger's guards dropped": ledger_unguarded,
    "fingerprint ignored": fingerprint_ignored,
    "change record left out": record_left_out,
    "undo skipped": undo_skipped,
    "look-again time not set": never_looked_at_again,
    "stale observation accepted": stale_observation_accepted,
    "counter taken first": counter_taken_first,
    "evacuation without a fence": evacuated_unfenced,
    "history id ignored": history_ignored,
}


def wrongs_of(told: Told) -> list[str]:
    """What the checkers say of a run; where the database was set back, of the time after."""
    if told.restored is not None:
        return judged(told.history, told.restored)
    return [f"{one.invariant}: {one.text}" for one in check(told.history)]


def found_by(name: str, seeds: Sequence[int], ops: int) -> tuple[int, list[str]]:
    """Runs seeds under a mutant until somebody notices: the seed, and who; or none."""
    for seed in seeds:
        with MUTANTS[name]():
            told = run_seed(seed, ops, shape=SHAPES.get(name))
        found = sorted({wrong.partition(":")[0] for wrong in wrongs_of(told)})
        if found or told.troubles:
            return seed, [*found, *(str(trouble) for trouble in told.troubles)]
    return -1, []
