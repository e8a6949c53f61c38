"""How long an instance takes to become ACTIVE and to be gone, alone and among many, and what that
costs each service.

Method: a whole cloud with fake hosts, as `stead up` starts it; one client on the same machine, told
by a watch, never polling. Each phase holds a number of wishes under way, begins and ends with an
empty cloud. CPU is that of the services' processes and moves less with what else the machine does
than rates and latencies. Nothing is asserted. Writes build/bench-lifecycle.json.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from stead.v1 import instance_pb2 as pb

from services.api.edges.tokens import Tokens, load_key
from services.cli.logic.home import Home
from tests.bench import traffic
from tests.bench.load import Life, Load, in_turn, load
from tests.bench.meters import Meter, machine, percentiles, spent_ms
from tests.clouds import Cloud, client, cloud, kernel_tar

HOSTS = 50
# (wishes under way, instances): the first is the latency of one alone.
PHASES = ((1, 250), (32, 1_500), (128, 2_000))
BUDGET_S = 14.0
IDLE_S = 10.0
GETS, LISTS, PAGE = 1_500, 150, 100
TOKEN_CHECKS = 2_000
RESULT = Path(__file__).parents[2] / "build" / "bench-lifecycle.json"

Figures = dict[str, Any]
Work = Callable[[], Awaitable[Life]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every phase works with."""

    of: Cloud
    meter: Meter
    load: Load
    flavor_id: str
    image_id: str

    def creates(self, count: int) -> list[Work]:
        """So many instances to be made."""
        return [partial(self.load.create, self.flavor_id, self.image_id)] * count

    def deletes(self, lives: list[Life]) -> list[Work]:
        """These, to be deleted."""
        return [partial(self.load.delete, life.id) for life in lives]


async def measured(bench: Bench, works: list[Work], at_once: int) -> tuple[Figures, list[Life]]:
    """Figures of one kind of work, and what it made."""
    rows, cpu, begun_s = traffic.database(bench.of), bench.meter.read(), time.perf_counter()
    lives = await in_turn(works, at_once=at_once, budget_s=BUDGET_S)
    took_s, spent = time.perf_counter() - begun_s, bench.meter.read()
    figures = {
        "count": len(lives),
        "per_s": round(len(lives) / took_s, 1),
        "reply_ms": percentiles([life.reply_s for life in lives]),
        "done_ms": percentiles([life.done_s for life in lives]),
        "cpu_ms_each": spent_ms(cpu, spent, len(lives)),
        "postgres_each": traffic.each(rows, traffic.database(bench.of), len(lives)),
    }
    return figures, lives


async def emptied(bench: Bench, lives: list[Life], at_once: int) -> Figures:
    """Deletes what was made, however long that takes; the figures of the first part of it."""
    figures, gone = await measured(bench, bench.deletes(lives), at_once)
    left = {life.id for life in lives} - {life.id for life in gone}
    rest = [life for life in lives if life.id in left]
    await in_turn(bench.deletes(rest), at_once=at_once, budget_s=float("inf"))
    return figures


async def lifecycle(bench: Bench, at_once: int, count: int) -> Figures:
    """Creates, then deletes, with so many under way."""
    created, lives = await measured(bench, bench.creates(count), at_once)
    return {"create": created, "delete": await emptied(bench, lives, at_once)}


async def messages(bench: Bench, at_once: int, count: int) -> Figures:
    """Messages of the bus for each create and each delete."""
    async with traffic.ear(bench.of) as heard:
        lives = await in_turn(bench.creates(count), at_once=at_once, budget_s=BUDGET_S)
        before = dict(heard)
        await in_turn(bench.deletes(lives), at_once=at_once, budget_s=float("inf"))
    return {
        "create": {name: round(n / len(lives), 2) for name, n in before.items()},
        "delete": {
            name: round((heard[name] - before.get(name, 0)) / len(lives), 2) for name in heard
        },
    }


async def idle(bench: Bench) -> Figures:
    """Percent of a core that each service uses, and how often it wakes, with nothing to do."""
    await asyncio.sleep(2)
    cpu, woken = bench.meter.read(), bench.meter.context_switches()
    await asyncio.sleep(IDLE_S)
    spent, woken_now = bench.meter.read(), bench.meter.context_switches()
    names = [name for name in spent if name != "client"]
    return {
        "percent_of_a_core": {n: round((spent[n] - cpu[n]) / IDLE_S * 100, 2) for n in names},
        "wakes_per_s": {n: round((woken_now[n] - woken[n]) / IDLE_S, 1) for n in names},
    }


async def reads(
    bench: Bench, at_once: int, count: int, read: Callable[[], Awaitable[Any]]
) -> Figures:
    """Figures of a read, done over and over."""
    took_s: list[float] = []

    async def one() -> Life:
        begun_s = time.perf_counter()
        await read()
        took_s.append(time.perf_counter() - begun_s)
        return Life("", took_s[-1], took_s[-1])

    cpu, begun_s = bench.meter.read(), time.perf_counter()
    await in_turn([one] * count, at_once=at_once, budget_s=BUDGET_S)
    per_s = len(took_s) / (time.perf_counter() - begun_s)
    return {
        "count": len(took_s),
        "per_s": round(per_s, 1),
        "reply_ms": percentiles(took_s),
        "cpu_ms_each": spent_ms(cpu, bench.meter.read(), len(took_s)),
    }


async def reading(bench: Bench) -> Figures:
    """What Get and a page of List cost."""
    stub, metadata = bench.load.instances, bench.load.metadata
    lives = await in_turn(bench.creates(PAGE), at_once=16, budget_s=BUDGET_S)
    get = partial(stub.GetInstance, pb.GetInstanceRequest(id=lives[0].id), metadata=metadata)
    page = partial(stub.ListInstances, pb.ListInstancesRequest(page_size=PAGE), metadata=metadata)
    figures = {
        "get_alone": await reads(bench, 1, GETS // 4, get),
        "get_32_at_once": await reads(bench, 32, GETS, get),
        f"list_{len(lives)}_alone": await reads(bench, 1, LISTS, page),
    }
    await in_turn(bench.deletes(lives), at_once=16, budget_s=float("inf"))
    return figures


def token_us(of: Cloud) -> Figures:
    """CPU microseconds of a token's check: seen before, and for the first time."""
    key, token = load_key(Home(of.home).public_key_file), of.token()
    cloud_id = json.loads(Home(of.home).cloud_file.read_text())["cloud_id"]
    known = Tokens(key, cloud_id)
    known.caller(token)
    hot_s = time.process_time()
    for _ in range(TOKEN_CHECKS):
        known.caller(token)
    cold_s = time.process_time()
    for _ in range(TOKEN_CHECKS // 10):
        Tokens(key, cloud_id).caller(token)
    end_s = time.process_time()
    return {
        "hot": round((cold_s - hot_s) / TOKEN_CHECKS * 1e6, 2),
        "first": round((end_s - cold_s) / (TOKEN_CHECKS // 10) * 1e6, 1),
    }


def ratios(figures: Figures) -> Figures:
    """What can be compared between machines and days."""
    found: Figures = {}
    for kind in ("create", "delete"):
        alone = figures["at_1"][kind]["cpu_ms_each"]["cloud"]
        for at_once, _ in PHASES[1:]:
            cost = figures[f"at_{at_once}"][kind]["cpu_ms_each"]["cloud"]
            found[f"cpu_of_{kind}_at_{at_once}_to_alone"] = round(cost / alone, 3)
    get = figures["reads"]["get_alone"]["cpu_ms_each"]
    found["hot_token_to_get"] = round(figures["token_us"]["hot"] / get["cloud"] / 1000, 4)
    return found


async def measure(of: Cloud, flavor_id: str, image_id: str) -> Figures:
    """All figures, in order."""
    async with load(of.endpoint, of.token()) as client_:
        bench = Bench(of, Meter(of), client_, flavor_id, image_id)
        figures: Figures = {"machine": machine(), "idle": await idle(bench)}
        await emptied(bench, await in_turn(bench.creates(64), at_once=8, budget_s=BUDGET_S), 8)
        for at_once, count in PHASES:
            figures[f"at_{at_once}"] = await lifecycle(bench, at_once, count)
        figures["messages_alone"] = await messages(bench, 1, 50)
        figures["messages_32_at_once"] = await messages(bench, 32, 400)
        figures["reads"] = await reading(bench)
    figures["token_us"] = token_us(of)
    return figures | {"ratios": ratios(figures)}


def main() -> None:
    """Measures, prints and writes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cloud("--driver", "fake", "--fake-hosts", str(HOSTS)) as of,
    ):
        with client(of) as as_:
            ids = as_.flavor(), as_.image(kernel_tar(Path(folder) / "kernel.tar"))
        figures = uvloop.run(measure(of, *ids))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    for at_once, _ in PHASES:
        for kind, found in figures[f"at_{at_once}"].items():
            print(
                f"{kind}, {at_once} under way: {found['per_s']}/s, reply {found['reply_ms']}, "
                f"done {found['done_ms']}, CPU ms each {found['cpu_ms_each']}"
            )
    print(f"idle: {figures['idle']}")
    print(f"ratios: {figures['ratios']}")


if __name__ == "__main__":
    main()
