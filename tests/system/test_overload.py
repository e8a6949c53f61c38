"""Goal: overload costs nobody but those who cause it. Method: far more creates at once than a cloud
takes in, one project asking for nearly all of them, and watchers that never read. Every refusal
says when to ask again, everything that was accepted ends, the small project is served, and no
service outgrows its bound (docs/troubles.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.runtime.ids import new_id
from tests.clouds import Cloud, client, cloud, eventually, kernel_tar

SERVICES = ("api", "conductor", "scheduler", "compute")
# Resident memory in MiB that no service exceeds, as docs/troubles.md says.
RESIDENT_MAX_MIB = 512
HOSTS = 100
CONNECTIONS = 20
SMALL_CREATES = 20
SHED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@dataclass
class Rush:
    """What became of the creates, by project; `without_delay` are refusals that say no delay."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    without_delay: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    ended_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Peaks:
    """The largest resident memory of each service, in MiB."""

    pids: dict[str, int]
    mib: dict[str, int] = field(default_factory=dict)

    async def watch(self) -> None:
        while True:
            for name, pid in self.pids.items():
                size = psutil.Process(pid).memory_info().rss >> 20
                self.mib[name] = max(self.mib.get(name, 0), size)
            await asyncio.sleep(0.1)


@pytest.mark.timeout(600)
def test_a_thousand_creates_at_once_and_fifty_watchers_that_never_read(tmp_path: Path) -> None:
    overload(tmp_path, creates=1000, watchers=50)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_creates_at_once_and_two_hundred_watchers_that_never_read(
    tmp_path: Path,
) -> None:
    rush = overload(tmp_path, creates=10_000, watchers=200)
    # The small one came last, and did not wait for all of the greedy one's to be accepted.
    assert rush.ended_s["small"] < rush.ended_s["greedy"]


def overload(folder: Path, *, creates: int, watchers: int) -> Rush:
    with cloud("--driver", "fake", "--fake-hosts", str(HOSTS)) as made, client(made) as admin:
        image = kernel_tar(folder / "k")
        imported = made.run("image", "import", str(image), "--name", "k", "--public", "-o", "json")
        request = instance_pb2.CreateInstanceRequest(
            flavor_id=admin.flavor(memory_mib=16), image_id=json.loads(imported.stdout)["id"]
        )
        tokens = {name: token_of(made, name) for name in ("greedy", "small")}
        peaks = Peaks({name: int(rows[0]["pid"]) for name, rows in rows_of(made).items()})
        rush = asyncio.run(rushed(made, tokens, request, peaks, creates, watchers))
        eventually(
            lambda: made.sql("SELECT count(*) FROM operation WHERE NOT finished") == "0",
            "all that was accepted ends",
        )
        there = made.sql("SELECT project_id, count(*) FROM instance GROUP BY 1").split()
        restarts = {name: rows[0]["restarts"] for name, rows in rows_of(made).items()}
    print(json.dumps({"peaks_mib": peaks.mib, "accepted": rush.accepted, "refused": rush.refused}))
    assert not rush.other, rush.other[:5]
    assert not rush.without_delay, rush.without_delay[:5]
    assert rush.accepted["small"] == SMALL_CREATES
    assert set(there) == {f"{project}|{n}" for project, n in rush.accepted.items()}
    assert max(peaks.mib.values()) < RESIDENT_MAX_MIB, peaks.mib
    assert set(restarts.values()) == {0}
    return rush


def rows_of(made: Cloud) -> dict[str, list[dict[str, Any]]]:
    found = made.services()
    return {name: found[name] for name in SERVICES}


def token_of(made: Cloud, project: str) -> str:
    words = ("token", "create", "--project", project, "--role", "member", "--output", "json")
    return str(json.loads(made.run(*words).stdout)["token"])


async def rushed(
    made: Cloud,
    tokens: dict[str, str],
    request: instance_pb2.CreateInstanceRequest,
    peaks: Peaks,
    creates: int,
    watchers: int,
) -> Rush:
    rush = Rush()
    async with contextlib.AsyncExitStack() as stack:
        watching = asyncio.create_task(peaks.watch())
        stack.callback(watching.cancel)
        stubs = [await stack.enter_async_context(stub(made)) for _ in range(CONNECTIONS)]
        silent = []
        for n in range(watchers):
            watch = stubs[n % CONNECTIONS].WatchInstances(
                instance_pb2.WatchInstancesRequest(), metadata=bearer(tokens["greedy"])
            )
            await watch.wait_for_connection()
            silent.append(watch)
        greedy = [
            insist(stubs[n % CONNECTIONS], tokens["greedy"], "greedy", wished(request, n), rush)
            for n in range(creates)
        ]
        rushing = asyncio.gather(*greedy)
        await asyncio.sleep(0)
        own = await stack.enter_async_context(stub(made))
        small = [
            insist(own, tokens["small"], "small", wished(request, n), rush)
            for n in range(SMALL_CREATES)
        ]
        await asyncio.gather(rushing, *small)
        for watch in silent:
            watch.cancel()
    return rush


@contextlib.asynccontextmanager
async def stub(made: Cloud) -> AsyncIterator[instance_pb2_grpc.InstanceServiceAsyncStub]:
    """A connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(made.endpoint, options=options) as channel:
        yield instance_pb2_grpc.InstanceServiceStub(channel)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def wished(
    request: instance_pb2.CreateInstanceRequest, n: int
) -> instance_pb2.CreateInstanceRequest:
    one = instance_pb2.CreateInstanceRequest(request_id=new_id(), name=f"i-{n}")
    one.MergeFrom(request)
    return one


async def insist(
    stub: instance_pb2_grpc.InstanceServiceAsyncStub,
    token: str,
    project: str,
    wish: instance_pb2.CreateInstanceRequest,
    rush: Rush,
) -> None:
    """Asks until it is accepted, each time after the delay that the refusal says."""
    for _ in range(1000):
        try:
            await stub.CreateInstance(wish, metadata=bearer(token), timeout=300)
        except grpc.aio.AioRpcError as error:
            if error.code() not in SHED:
                rush.other.append(f"{error.code()} {error.details()}")
                return
            rush.refused[project] += 1
            delay_s = delay_of(error)
            if delay_s is None:
                rush.without_delay.append(f"{error.code()} {error.details()}")
            await asyncio.sleep(delay_s or 1.0)
        else:
            rush.accepted[project] += 1
            rush.ended_s[project] = time.monotonic()
            return
    rush.other.append(f"{project} was never accepted")


def delay_of(error: grpc.aio.AioRpcError) -> float | None:
    """What RetryInfo says, in seconds."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # aio errors have what it reads
    delay = error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(delay):
            return delay.retry_delay.ToMilliseconds() / 1000
    return None
