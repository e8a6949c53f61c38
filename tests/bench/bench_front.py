"""The front door's figures: an empty call, boots one by one and in batches, reads.

Method: a fresh cloud as `stead up` starts it, fake hosts in one process with a subject and a stream
each; tokens, validation, quotas, fsync, logs and metrics on. One client on the same machine, told
by its own watch. All rows are measured one after another, each after 200 creates that do not count,
and that three times, so that what else the machine does falls on all of them; the median of each
figure stands. Pages, which are long, are measured once. CPU is that of every process of the
cloud, its supervisor too, and of the client. `echo` is grpc.health.v1's Check: an empty call
through the same server and interceptors, which asks for no token. Writes build/bench.json, a list
of rows, and a plot of it. Nothing is asserted.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stead.v1 import instance_pb2 as pb
from stead.v1 import quota_pb2, quota_pb2_grpc

from services.runtime.ids import new_id
from tests.bench.load import Life, Load, in_turn, load
from tests.bench.meters import Meter
from tests.bench.plot import plot
from tests.clouds import Cloud, client, cloud, kernel_tar

HOSTS = 50
WARM_UP = 200
REPEATS = 3
# A thousand instances each: two thousand such pages are a minute of work.
ONCE = frozenset({"list"})
BATCH = 100
PAGE = 1000
MANY = 1_000_000_000
FOREVER = float("inf")
BUILD = Path(__file__).parents[2] / "build"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of build/bench.json. Times are until ACTIVE for boots, else until the answer."""

    scenario: str
    concurrency: int
    hosts: int
    count: int
    rate_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_op: float


@dataclass(frozen=True, slots=True)
class Front:
    """What every scenario works with."""

    of: Cloud
    load: Load
    channel: grpc.aio.Channel
    meter: Meter
    flavor_id: str
    image_id: str


Works = Sequence[Callable[[], Awaitable[list[Life]]]]


async def measured(front: Front, scenario: str, concurrency: int, works: Works) -> Row:
    """One run: every work once, `concurrency` under way; boots are deleted afterwards."""
    cpu, begun_s = sum(front.meter.read().values()), time.perf_counter()
    lives = list(itertools.chain(*await in_turn(works, at_once=concurrency, budget_s=FOREVER)))
    took_s = time.perf_counter() - begun_s
    cpu_s = sum(front.meter.read().values()) - cpu
    await emptied(front, [life for life in lives if life.id])
    took_ms = sorted(life.done_s * 1000 for life in lives)
    return Row(
        scenario=scenario,
        concurrency=concurrency,
        hosts=HOSTS,
        count=len(lives),
        rate_per_s=round(len(lives) / took_s, 1),
        p50_ms=round(statistics.median(took_ms), 2),
        p99_ms=round(took_ms[len(took_ms) * 99 // 100], 2),
        cpu_ms_per_op=round(cpu_s * 1000 / len(lives), 3),
    )


async def emptied(front: Front, lives: list[Life]) -> None:
    """Deletes what was made."""
    deletes = [partial(_one, partial(front.load.delete, life.id)) for life in lives]
    await in_turn(deletes, at_once=64, budget_s=FOREVER)


async def _one(work: Callable[[], Awaitable[Life]]) -> list[Life]:
    return [await work()]


async def _timed(call: Callable[[], Awaitable[Any]]) -> list[Life]:
    begun_s = time.perf_counter()
    await call()
    took_s = time.perf_counter() - begun_s
    return [Life("", took_s, took_s)]


def creates(front: Front, count: int) -> Works:
    """So many boots, one call each."""
    work = partial(front.load.create, front.flavor_id, front.image_id)
    return [partial(_one, work)] * count


def batches(front: Front, count: int) -> Works:
    """So many boots in calls of a hundred."""
    work = partial(front.load.batch_create, front.flavor_id, front.image_id, BATCH)
    return [work] * (count // BATCH)


def scenarios(front: Front, an_id: str) -> Iterator[tuple[str, int, Callable[[], Works]]]:
    """Every row's name, how much is under way, and its works."""
    stub, metadata = front.load.instances, front.load.metadata
    echo = partial(health_pb2_grpc.HealthStub(front.channel).Check, health_pb2.HealthCheckRequest())
    get = partial(stub.GetInstance, pb.GetInstanceRequest(id=an_id), metadata=metadata)
    page = partial(stub.ListInstances, pb.ListInstancesRequest(page_size=PAGE), metadata=metadata)
    yield "echo", 1, lambda: [partial(_timed, echo)] * 2_000
    yield "echo", 32, lambda: [partial(_timed, echo)] * 6_000
    yield "get", 1, lambda: [partial(_timed, get)] * 2_000
    yield "get", 32, lambda: [partial(_timed, get)] * 4_000
    yield "list", 1, lambda: [partial(_timed, page)] * 2_000
    yield "create", 1, lambda: creates(front, 2_000)
    yield "create", 32, lambda: creates(front, 3_000)
    yield "create", 128, lambda: creates(front, 3_000)
    yield "batch_create", 8, lambda: batches(front, 8_000)


def medians(runs: Sequence[Row]) -> list[Row]:
    """The median of each figure of the runs of each row."""
    by_row = defaultdict(list)
    for run in runs:
        by_row[run.scenario, run.concurrency].append(asdict(run))
    figures = ("rate_per_s", "p50_ms", "p99_ms", "cpu_ms_per_op")
    return [
        Row(
            **(of_it[0] | {name: statistics.median(run[name] for run in of_it) for name in figures})
        )
        for of_it in by_row.values()
    ]


async def warmed(front: Front) -> list[Life]:
    """The boots that do not count."""
    lives = await in_turn(creates(front, WARM_UP), at_once=16, budget_s=FOREVER)
    return list(itertools.chain(*lives))


async def measure(of: Cloud, flavor_id: str, image_id: str) -> list[Row]:
    """All rows, each the median of its runs."""
    runs: list[Row] = []
    async with (
        load(of.endpoint, of.token()) as client_,
        grpc.aio.insecure_channel(of.endpoint) as channel,
    ):
        await limited(channel, client_)
        front = Front(of, client_, channel, Meter(of), flavor_id, image_id)
        for nth in range(REPEATS):
            async for run in in_one_round(front, nth):
                print(json.dumps(asdict(run)), flush=True)
                runs.append(run)
    return medians(runs)


async def in_one_round(front: Front, nth: int) -> AsyncIterator[Row]:
    """One run of each row after its warm-up; reads of a page of instances, boots of none."""
    there: list[Life] = []
    for _ in range(PAGE // BATCH):
        there += await front.load.batch_create(front.flavor_id, front.image_id, BATCH)
    for scenario, concurrency, works in scenarios(front, there[0].id):
        if scenario in ONCE and nth > 0:
            continue
        if scenario == "create" and there:
            await emptied(front, there)
            there = []
        await emptied(front, await warmed(front))
        yield await measured(front, scenario, concurrency, works())


async def limited(channel: grpc.aio.Channel, client_: Load) -> None:
    """Gives the project limits, so that quotas are counted against something."""
    amounts = quota_pb2.QuotaAmounts(instances=MANY, vcpus=MANY, memory_mib=MANY, disk_gib=MANY)
    await quota_pb2_grpc.QuotaServiceStub(channel).UpdateQuota(
        quota_pb2.UpdateQuotaRequest(
            request_id=new_id(),
            project_id="admin",
            limits=amounts,
            update_mask=FieldMask(paths=["*"]),
        ),
        metadata=client_.metadata,
    )


def main() -> None:
    """Measures, prints and writes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cloud("--driver", "fake", "--fake-hosts", str(HOSTS)) as of,
    ):
        with client(of) as as_:
            ids = as_.flavor(), as_.image(kernel_tar(Path(folder) / "kernel.tar"))
        rows = uvloop.run(measure(of, *ids))
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    plot([asdict(row) for row in rows], BUILD / "bench.svg")
    echo = next(row for row in rows if (row.scenario, row.concurrency) == ("echo", 32))
    for row in rows:
        print(
            f"{row.scenario} x {row.concurrency}: {row.rate_per_s}/s, p50 {row.p50_ms} ms, "
            f"p99 {row.p99_ms} ms, CPU {row.cpu_ms_per_op} ms = "
            f"{row.cpu_ms_per_op / echo.cpu_ms_per_op:.2f} x echo"
        )


if __name__ == "__main__":
    main()
