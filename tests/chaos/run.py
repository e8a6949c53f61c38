"""One run: a cloud comes up, clients live in it, the nemesis breaks it, all is healed, and what
was promised is compared with what is there. Owns the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checks import judge
from tests.chaos.clients import Client, Goods, Project
from tests.chaos.doors import Door
from tests.chaos.homes import ChaosCloud
from tests.chaos.journals import Follower, fake_guests, real_guests
from tests.chaos.links import socket_road, tcp_road
from tests.chaos.nemesis import Nemesis, Roads
from tests.chaos.packets import Packets
from tests.chaos.plan import BUS, faults
from tests.chaos.report import Run, write
from tests.chaos.rows import dumped, times_of
from tests.chaos.watchers import Watcher
from tests.checkers.history import Dump, History
from tests.clouds import client, kernel_tar
from tests.hypervisors import guest_image

PROJECTS, CLIENTS = 3, 8
CALM_S = 8.0
CLIENTS_END_S = 90.0
REAL_END_S = 240.0
RECOVERY_S_MAX = 30.0
CATCH_UP_S = 60.0


@dataclass(slots=True)
class Crowd:
    """Everybody who uses the cloud."""

    clients: list[Client] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    living: list[asyncio.Task[None]] = field(default_factory=list)
    watching: list[asyncio.Task[None]] = field(default_factory=list)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    doors: list[Door] = field(default_factory=list)


async def run(cloud: ChaosCloud, *, seed: int, minutes: float, build: Path) -> int:
    """The exit code: 0 if nothing broke and enough was really done."""
    try:
        cloud.prepare()
        await asyncio.to_thread(cloud.start)
        async with roads_of(cloud) as (roads, endpoints):
            outcome = await broken(cloud, roads, endpoints, seed=seed, minutes=minutes)
        outcome.began = (seed, minutes)
        build.mkdir(exist_ok=True)
        # To be judged again by whoever mends a checker.
        (build / "chaos-history.pickle").write_bytes(pickle.dumps(outcome.history))
        return write(outcome, build)
    finally:
        await asyncio.to_thread(leave, cloud, build / "chaos-logs")


def leave(cloud: ChaosCloud, kept: Path) -> None:
    """Takes the cloud down and keeps its logs."""
    cloud.run("down", check=False)
    shutil.rmtree(kept, ignore_errors=True)
    if (cloud.home / "logs").is_dir():
        shutil.copytree(cloud.home / "logs", kept)


@contextlib.asynccontextmanager
async def roads_of(
    cloud: ChaosCloud,
) -> AsyncIterator[tuple[Roads, list[str]]]:
    """The roads that can be cut, and where clients find api at their near ends."""
    seats = [seat for seat in cloud.seats().values() if seat.name == "api"]
    sockets = {
        "ingress": [cloud.home / "run" / name for name in ("ingress.sock", "ingress-1.sock")],
        "conductor": [cloud.home / "run" / "conductor.sock"],
        "database": [cloud.home / "run" / ".s.PGSQL.5432"],
    }
    async with contextlib.AsyncExitStack() as stack:
        fronts = [
            await stack.enter_async_context(tcp_road(f"front {seat.label}", seat.endpoint))
            for seat in seats
        ]
        roads: Roads = {"front": [road for road, _ in fronts]}
        for name, paths in sockets.items():
            roads[name] = [
                await stack.enter_async_context(socket_road(path.name, path)) for path in paths
            ]
        port = cloud.seats()["nats"].endpoint.rpartition(":")[2]
        yield roads | {BUS: [Packets(int(port))]}, [endpoint for _, endpoint in fronts]


async def broken(
    cloud: ChaosCloud, roads: Roads, endpoints: list[str], *, seed: int,
    minutes: float,
) -> Run:  # fmt: skip
    """Clients and faults, then healing, then the truth."""
    follower = Follower(cloud)
    following = asyncio.create_task(follower.follow())
    crowd = await gathered(cloud, endpoints, seed)
    nemesis = Nemesis(cloud, roads, seed)
    run = Run(calm_s=time.time(), offset_s=time.time() - time.monotonic())
    await asyncio.sleep(CALM_S)
    run.faults_s = time.time()
    print("chaos: faults begin", flush=True)
    await nemesis.follow(faults(seed, minutes))
    crowd.ending.set()
    run.ended_s = time.time()
    await nemesis.heal()
    run.healed_s = time.time()
    print(f"chaos: healed after {len(nemesis.done)} faults", flush=True)
    run.violations += await ended(crowd)
    run.violations += await settled(cloud, run)
    run.violations += await caught_up(cloud, crowd)
    following.cancel()
    follower.look(time.monotonic(), time.monotonic())
    for task in crowd.watching:
        task.cancel()
    await asyncio.gather(following, *crowd.watching, return_exceptions=True)
    for door in crowd.doors:
        await door.close()
    run.done, run.missed = nemesis.done, nemesis.missed
    await told(cloud, crowd, follower, run)
    run.violations += await asyncio.to_thread(judge, run.history)
    return run


async def told(cloud: ChaosCloud, crowd: Crowd, follower: Follower, run: Run) -> None:
    """Puts together what everybody says of it."""
    tables = await dumped(cloud)
    run.times = times_of(tables["operations"])
    guests = fake_guests(cloud)
    # Beside this loop, which carries the roads that it asks through.
    real = await asyncio.to_thread(of_real_host, cloud) if cloud.real else []
    run.real_guests = len(real)
    run.watch_events = sum(watcher.changes for watcher in crowd.watchers)
    run.history = History(
        calls=[call for one in crowd.clients for call in one.calls],
        seen=[told for one in crowd.watchers for told in one.seen],
        host_events=follower.events,
        dump=Dump(**tables, guests=[*guests, *real]),
    )


async def gathered(cloud: ChaosCloud, endpoints: list[str], seed: int) -> Crowd:
    """Everybody, at work."""
    crowd = Crowd()
    tiny, large = await asyncio.to_thread(flavors, cloud)
    everybody = Watcher("admin", Door(endpoints, cloud.token()), project=None)
    crowd.watchers.append(everybody)
    image = await asyncio.to_thread(kernel_tar, cloud.home.parent / "kernel.tar")
    for place in range(PROJECTS):
        project, goods = await asyncio.to_thread(stocked, cloud, f"p{place}", tiny, image)
        crowd.watchers.append(
            Watcher(project.id, Door(endpoints, project.token, place), project=project)
        )
        for number in range(CLIENTS):
            door = Door(endpoints, project.token, number)
            crowd.doors.append(door)
            name = f"{project.id}-c{number}"
            one = Client(name, project, door, seed + 100 * place + number)
            crowd.clients.append(one)
            crowd.living.append(asyncio.create_task(one.live(goods, crowd.ending)))
    if cloud.real:
        image = await asyncio.to_thread(guest_image)
        project, goods = await asyncio.to_thread(stocked, cloud, "real", large, image)
        door = Door(endpoints, project.token)
        crowd.watchers.append(Watcher("real", Door(endpoints, project.token), project=project))
        one = Client("real-c0", project, door, seed)
        crowd.clients.append(one)
        crowd.doors.append(door)
        crowd.living.append(asyncio.create_task(one.tend(goods, crowd.ending)))
    crowd.watching = [asyncio.create_task(watcher.follow()) for watcher in crowd.watchers]
    return crowd


def flavors(cloud: ChaosCloud) -> tuple[str, str]:
    """A size that only fake hosts have room for, and one for the real host alone."""
    with client(cloud) as admin:
        return (
            admin.flavor("tiny", vcpus=64, memory_mib=16),
            admin.flavor("large", vcpus=1, memory_mib=192),
        )


def stocked(
    cloud: ChaosCloud, project_id: str, flavor_id: str, image: Path
) -> tuple[Project, Goods]:
    """A project that has an image."""
    token = cloud.token_of(project_id)
    with client(cloud, token) as member:
        return Project(project_id, token), Goods(flavor_id, member.image(image))


async def ended(crowd: Crowd) -> list[str]:
    """Waits until the clients have ended their last calls."""
    _, late = await asyncio.wait(crowd.living, timeout=CLIENTS_END_S)
    for task in late:
        task.cancel()
    failed = [task.exception() for task in crowd.living if task.done() and not task.cancelled()]
    return [f"clients: {len(late)} never ended"] * bool(late) + [
        f"clients: {error!r}" for error in failed if error is not None
    ]


async def settled(cloud: ChaosCloud, run: Run) -> list[str]:
    """Waits until no operation is under way: for those of fake hosts as long as was promised, and
    no longer.
    """
    since_s = time.monotonic()
    real = "resource_id IN (SELECT id::text FROM instance WHERE project_id = 'real')"
    open_ = "SELECT id, action, phase, resource_id FROM operation WHERE NOT finished"
    leaving = "SELECT instance_id FROM claim WHERE role = 3"
    violations = []
    for where, patience_s in ((f"AND NOT {real}", RECOVERY_S_MAX), (f"AND {real}", REAL_END_S)):
        while left := await cloud.rows(f"{open_} {where}"):
            if time.monotonic() - since_s > patience_s:
                violations.append(f"recovery: {len(left)} operations never ended: {left[:3]}")
                break
            await asyncio.sleep(0.2)
    while time.monotonic() - since_s < RECOVERY_S_MAX:
        if not await cloud.rows(leaving):
            break
        await asyncio.sleep(0.2)
    run.settled_s = time.time()
    return violations


async def caught_up(cloud: ChaosCloud, crowd: Crowd) -> list[str]:
    """Waits until every watcher was told of the newest commit."""
    head = int((await cloud.rows("SELECT revision FROM counter"))[0]["revision"])
    until_s = time.monotonic() + CATCH_UP_S
    while any(w.revision < head and not w.failure for w in crowd.watchers):
        if time.monotonic() > until_s:
            break
        await asyncio.sleep(0.2)
    return [
        f"watch: {w.name} stands at {w.revision} of {head} {w.failure}".strip()
        for w in crowd.watchers
        if w.revision < head or w.failure
    ]


def of_real_host(cloud: ChaosCloud) -> list[dict[str, Any]]:
    """Guests of the real host."""
    (host,) = [h["id"] for h in cloud.json("host", "list") if not h["id"].startswith("fake")]
    return real_guests(cloud, str(host))
