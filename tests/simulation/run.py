"""One run of a seed: a cloud, users, trouble, healing, quiet; and what is to be judged of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from services.compute.flows.agent import BEAT_S, GREETING_S_MAX, SILENCE_S_MAX
from services.runtime.log import logger
from tests.checkers.history import History, HostEvent
from tests.checkers.past import Past
from tests.checkers.placement import true_rows
from tests.simulation import nemesis
from tests.simulation.admins import Admin
from tests.simulation.audits import Auditor
from tests.simulation.belongings import lost_bytes
from tests.simulation.clients import Work
from tests.simulation.consoles import Onlooker
from tests.simulation.dump import dump_of
from tests.simulation.nemesis import Nemesis
from tests.simulation.readers import Reader
from tests.simulation.restore import Restored, Restorer
from tests.simulation.stewards import Steward
from tests.simulation.users import User, Watcher
from tests.simulation.world import Shape, World

QUIET_S_MAX = 1800.0
LOOK_S = 2.0
# What a host may need to be heard after the healing: its stream was cut half-open, then the next
# greeting; what it has to say goes with a beat at the latest, and is said again with the next.
HEARD_S_MAX = SILENCE_S_MAX + GREETING_S_MAX + 2 * BEAT_S
WARM_S = 8.0
PROJECTS = ("p", "q")


@dataclass(slots=True)
class Told:
    """What came of a run. `troubles` are what the run itself found wrong."""

    seed: int
    ops: int
    trace: str
    steps: int
    virtual_s: float
    quiet_s: float
    history: History
    troubles: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    restored: Restored | None = None


def run_seed(seed: int, ops: int, *, faults: bool = True, shape: Shape | None = None) -> Told:
    """Runs it; the same arguments give the same run."""
    with undisturbed():
        return _run(seed, ops, faults=faults, shape=shape)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """For the life of one world: when something is collected must not hang on what ran before; and
    what is left of processes that were killed ends with their world, with complaints that nobody
    needs.
    """
    was_on = gc.isenabled()
    gc.disable()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with _silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing is logged: a run is looked into by running it again."""
    before = structlog.get_config()
    if "STEAD_LOG_LEVEL" not in os.environ:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        logger.cache_clear()
    try:
        yield
    finally:
        structlog.configure(**before)
        logger.cache_clear()


def _run(seed: int, ops: int, *, faults: bool, shape: Shape | None) -> Told:
    world = World(f"{seed}/{ops}/{faults}", shape or nemesis.shape_of(seed))
    try:
        told: Told = world.loop.run_until_complete(_live(world, seed, ops, faults=faults))
        return told
    finally:
        world.loop.close()


async def _live(world: World, seed: int, ops: int, *, faults: bool) -> Told:
    work, evil = Work(left=ops), Nemesis(world)
    await world.open()
    await asyncio.sleep(WARM_S)
    watchers = [Watcher(world, work, f"watcher {p or 'all'}", p) for p in (*PROJECTS, "")]
    watching = [world.users.spawn(w.live(), name=w.name) for w in watchers]
    users = [User(world, work, f"user-{n}", PROJECTS[n % 2]) for n in range(4)]
    living = [world.users.spawn(user.live()) for user in users]
    admin = Admin(world, work)
    auditor = Auditor(world, work)
    onlookers = [Onlooker(world, work, project_id) for project_id in PROJECTS]
    readers = [Reader(world, work, project_id) for project_id in PROJECTS]
    aside = (admin, auditor, Steward(world, work), *onlookers, *readers)
    others = [world.users.spawn(one.live()) for one in aside]
    if faults:
        others.append(world.users.spawn(evil.live()))
    restoring = world.users.spawn(Restorer(world, work).live()) if world.shape.restored else None
    await asyncio.gather(*living)
    restored = await restoring if restoring is not None else None
    for task in others:
        task.cancel()
    evil.heal()
    await admin.finish()
    await auditor.sort_out()
    # A power switch may have been at it still: whatever is off now comes back as well.
    tending = world.users.spawn(admin.tend())
    healed_s = world.loop.time()
    quiet = await _until_quiet(world, watchers)
    await _until_heard(world, work, healed_s)
    quiet = quiet and await _until_quiet(world, watchers)
    differences = await auditor.told_at_last()
    if not world.shape.restored:
        # A row that came back may name bytes that went since.
        work.troubles += lost_bytes(world)
    for onlooker in onlookers:
        await onlooker.look_at_last()
    for task in (*watching, tending):
        task.cancel()
    told = Told(
        seed, ops, f"{world.loop.crc:08x}-{world.loop.steps}", world.loop.steps,
        world.loop.time(), world.loop.time() - healed_s,
        History(work.calls, work.seen, _events(world), dump_of(world), differences),
        [*world.crashes, *world.loop.errors, *work.troubles], dict(evil.done),
    )  # fmt: skip
    if restored is not None:
        told.restored = replace(restored, unknown=restored.unknown - work.condemned)
    if not quiet:
        told.troubles.append(f"not quiet {QUIET_S_MAX:.0f} s after the last fault was healed")
        told.troubles += _unsettled(world, watchers)
    return told


def _events(world: World) -> list[HostEvent]:
    events = [event for machine in world.machines.values() for event in machine.events]
    return sorted(events, key=lambda event: event.at_s)


async def _until_quiet(world: World, watchers: list[Watcher]) -> bool:
    until_s = world.loop.time() + QUIET_S_MAX
    while world.loop.time() < until_s:
        await asyncio.sleep(LOOK_S)
        if not _unsettled(world, watchers):
            return True
    return False


async def _until_heard(world: World, work: Work, healed_s: float) -> None:
    """Waits while a row is behind its guest, as long as hosts may need; what is behind then is a
    violation, which the checkers find.
    """
    while world.loop.time() < healed_s + HEARD_S_MAX:
        if not any(true_rows(Past(History(work.calls, work.seen, [], dump_of(world))))):
            break
        await asyncio.sleep(LOOK_S)


def _is_kept(rows: Any, claim: Any) -> bool:
    """What an evacuation left on a disk stays until its owner deletes the instance."""
    row = rows.instances.get(claim.instance_id)
    return not claim.discard and row is not None and not row.deleted


def _unsettled(world: World, watchers: list[Watcher]) -> list[str]:
    """What is still to be done."""
    rows = world.store.rows
    found = [f"the machine of {host_id} is off" for host_id in sorted(world.lost)]
    found += [f"operation {id_} of {i} is under way" for i, id_ in rows.under_way.items()]
    found += [
        f"a claim is {c.role.name}: {c.instance_id} {c.epoch} on {c.host_id}"
        for c in rows.claims.values()
        if c.role.name != "HOLDER" and not _is_kept(rows, c)
    ]
    found += [
        f"{w.name} is at {w.revision} of {rows.head}" for w in watchers if w.revision < rows.head
    ]
    return found
