"""Many seeds on all processors, each judged by the checkers. Owns what is told of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import get_context
from typing import Any

from tests.checkers.checks import CHECKERS
from tests.simulation.nemesis import shape_of
from tests.simulation.restore import judged as judged_after
from tests.simulation.run import run_seed
from tests.simulation.world import Shape

TOLD_MAX = 12
# A process that has run so many seeds makes room for a fresh one.
SEEDS_PER_PROCESS = 50


@dataclass(frozen=True, slots=True)
class Judged:
    """What one seed came to; no `wrongs` where nothing was violated."""

    seed: int
    trace: str
    steps: int
    virtual_s: float
    quiet_s: float
    calls: int
    watch_events: int
    faults: dict[str, int]
    wrongs: list[str]


@dataclass(slots=True)
class Tally:
    """All seeds of one go. `more` is what else `make sim` must be told to run one again."""

    ops: int
    more: str = ""
    seeds: int = 0
    steps: int = 0
    calls: int = 0
    watch_events: int = 0
    virtual_s: float = 0.0
    quiet_s_max: float = 0.0
    took_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def add(self, one: Judged) -> None:
        """Counts one more."""
        self.seeds += 1
        self.steps += one.steps
        self.calls += one.calls
        self.watch_events += one.watch_events
        self.virtual_s += one.virtual_s
        self.quiet_s_max = max(self.quiet_s_max, one.quiet_s)
        self.faults.update(one.faults)
        if one.wrongs:
            self.failed[one.seed] = one.wrongs

    def figures(self) -> dict[str, object]:
        """For build/sim.json."""
        return {
            "seeds": self.seeds,
            "ops": self.ops,
            "operations": self.seeds * self.ops,
            "seconds": round(self.took_s, 1),
            "steps": self.steps,
            "calls": self.calls,
            "watch_events": self.watch_events,
            "virtual_s": round(self.virtual_s),
            "quiet_s_max": round(self.quiet_s_max, 1),
            "faults": self.faults.total(),
            "faults_by_kind": dict(sorted(self.faults.items())),
            "failed_seeds": sorted(self.failed),
            "violations": {str(seed): wrongs for seed, wrongs in self.failed.items()},
        }

    def told(self) -> str:
        """For people: each failing seed with how to run it again."""
        done = f"{self.seeds} seeds of {self.ops} operations, {self.faults.total()} faults"
        lines = [f"{done}, {len(self.failed)} failed, {self.took_s:.0f} s"]
        for seed, wrongs in sorted(self.failed.items()):
            lines.append(f"make sim SEED={seed} OPS={self.ops}{self.more}")
            lines += [f"    {wrong}" for wrong in wrongs[:TOLD_MAX]]
        return "\n".join(lines)


Shaped = Callable[[int], Shape]


def restored(seed: int) -> Shape:
    """A cloud whose database is set back to a backup."""
    return replace(shape_of(seed), restored=True, switch=False)


def judged(seed: int, ops: int, shaped: Shaped = shape_of) -> Judged:
    """Runs one seed and has it judged."""
    try:
        told = run_seed(seed, ops, shape=shaped(seed))
    except RuntimeError as error:
        return Judged(seed, "", 0, 0.0, 0.0, 0, 0, {}, [f"the run ended by {error!r}"])
    wrongs = list(told.troubles)
    if told.restored is not None:
        wrongs += judged_after(told.history, told.restored)
    else:
        for check in CHECKERS.values():
            wrongs += [f"{found.invariant}: {found.text}" for found in check(told.history)]
    return Judged(
        seed, told.trace, told.steps, told.virtual_s, told.quiet_s, len(told.history.calls),
        len(told.history.seen), told.faults, wrongs,
    )  # fmt: skip


def run_seeds(  # all that a go is made of
    first: int,
    ops: int,
    *,
    least: int,
    workers: int,
    until_s: float = 0.0,
    shaped: Shaped = shape_of,
) -> Tally:
    """At least so many seeds from `first` on, and more until `until_s` have passed."""
    tally, began_s = Tally(ops, " RESTORED=1" if shaped is restored else ""), time.monotonic()
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, max_tasks_per_child=SEEDS_PER_PROCESS
    ) as pool:
        for one in _in_turn(pool, count(first), workers, lambda seed: (judged, seed, ops, shaped)):
            tally.add(one)
            if tally.seeds >= least and time.monotonic() - began_s >= until_s:
                break
        pool.shutdown(cancel_futures=True)
    tally.took_s = time.monotonic() - began_s
    return tally


def _in_turn(
    pool: ProcessPoolExecutor, seeds: Iterator[int], workers: int, work: Callable[[int], Any]
) -> Iterator[Judged]:
    flying: set[Future[Judged]] = set()
    while True:
        while len(flying) < 2 * workers:
            flying.add(pool.submit(*work(next(seeds))))
        done, flying = wait(flying, return_when=FIRST_COMPLETED)
        for one in done:
            yield one.result()
