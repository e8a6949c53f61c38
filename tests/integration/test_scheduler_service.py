"""The scheduler as a process of its own, with a real bus and a conductor that speaks the contract.

Goal: what it answers on the bus is right whatever it missed. Method: a nats-server, a small
conductor in this process that holds hosts and a change log, and `python -m services.scheduler`.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stead.internal.v1 import resource_pb2

from tests.integration.scheduler_cloud import (
    Cloud,
    cloud_in,
    host,
    is_answering,
    is_ready,
    request,
    until,
)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with cloud_in(tmp_path) as cloud:
        yield cloud


async def test_a_request_on_the_bus_is_answered_with_the_best_host_and_runners_up(
    cloud: Cloud,
) -> None:
    for number in range(8):
        cloud.conductor.commit(host(f"host-{number}", used=number, up=number != 0))
    await cloud.start_scheduler()
    asked = request()
    await cloud.place(asked)
    decision = await cloud.decided(asked)
    assert decision.host_id == "host-1"
    assert list(decision.runner_up_ids) == ["host-2", "host-3", "host-4"]
    assert (decision.attempt, decision.hosts) == (1, 8)
    assert {f.filter: f.hosts for f in decision.rejected if f.hosts} == {"up": 1}
    assert cloud.batches[-1].fleet_revision == cloud.conductor.head


async def test_a_negative_weight_packs(cloud: Cloud) -> None:
    for number in range(4):
        cloud.conductor.commit(host(f"host-{number}", used=number))
    await cloud.start_scheduler(STEAD_SCHEDULER_WEIGHT_CPU="-1")
    asked = request()
    await cloud.place(asked)
    assert (await cloud.decided(asked)).host_id == "host-3"


async def test_a_refusal_carries_one_count_per_filter_over_all_hosts(cloud: Cloud) -> None:
    cloud.conductor.commit(host("host-a", used=8, up=False))
    cloud.conductor.commit(host("host-b", used=8))
    cloud.conductor.commit(host("host-c"))
    await cloud.start_scheduler()
    asked = request(excluded_host_ids=["host-c"])
    await cloud.place(asked)
    decision = await cloud.decided(asked)
    assert decision.host_id == ""
    assert {f.filter: f.hosts for f in decision.rejected} == {
        "enabled": 0,
        "up": 1,
        "capacity_vcpus": 2,
        "capacity_memory": 0,
        "capacity_disk": 0,
        "architecture": 0,
        "image_kind": 0,
        "excluded": 1,
    }


async def test_a_refusal_waits_for_the_revision_that_the_request_has_seen(cloud: Cloud) -> None:
    await cloud.start_scheduler()
    # The bus never tells of this host: only the log knows it.
    row = cloud.conductor.commit(host("host-late"))
    asked = request(min_revision=row.revision)
    await cloud.place(asked)
    assert (await cloud.decided(asked)).host_id == "host-late"


async def test_changes_on_the_bus_reach_the_fleet_in_any_order(cloud: Cloud) -> None:
    await cloud.start_scheduler()
    first = cloud.conductor.commit(host("host-a", used=1))
    second = cloud.conductor.commit(host("host-a", used=8))
    third = cloud.conductor.commit(host("host-b", vcpus=2))
    for row in (third, first, second, first):
        await cloud.tell(row)
    asked = request(min_revision=third.revision)
    await cloud.place(asked)
    assert (await cloud.decided(asked)).host_id == "host-b"
    gone = cloud.conductor.commit(
        resource_pb2.Resource(kind=resource_pb2.RESOURCE_KIND_HOST, id="host-b", deleted=True)
    )
    await cloud.tell(gone)
    asked = request(min_revision=gone.revision)
    await cloud.place(asked)
    decision = await cloud.decided(asked)
    assert (decision.host_id, decision.hosts) == ("", 1)


async def test_a_scheduler_without_its_fleet_is_alive_but_takes_no_requests(cloud: Cloud) -> None:
    cloud.conductor.commit(host("host-a"))
    await cloud.start_scheduler()
    reachable, cloud.target = cloud.target, f"unix:{cloud.home}/nobody.sock"
    admin = await cloud.start_scheduler(wait=False)
    await until(lambda: is_answering(admin))
    cloud.target = reachable
    assert await is_ready(admin) is False
    asked = [request(vcpus=0) for _ in range(40)]
    for one in asked:
        await cloud.place(one)
    for one in asked:
        assert (await cloud.decided(one)).host_id == "host-a"


async def test_a_scheduler_killed_with_nine_goes_on_when_it_is_started_again(cloud: Cloud) -> None:
    cloud.conductor.commit(host("host-a"))
    await cloud.start_scheduler()
    cloud.schedulers[0].send_signal(signal.SIGKILL)
    await cloud.schedulers[0].wait()
    asked = request()
    await cloud.place(asked)  # nobody hears it
    cloud.conductor.commit(host("host-a", used=8))
    row = cloud.conductor.commit(host("host-b"))
    await cloud.start_scheduler()
    asked.min_revision = row.revision
    await cloud.place(asked)
    assert (await cloud.decided(asked)).host_id == "host-b"


async def test_another_history_is_loaded_anew(cloud: Cloud) -> None:
    cloud.conductor.commit(host("host-old"))
    await cloud.start_scheduler()
    await cloud.tell()
    cloud.conductor.history_id = "history-2"
    cloud.conductor.base, cloud.conductor.log, cloud.conductor.hosts = 1 << 40, [], {}
    row = cloud.conductor.commit(host("host-new"))
    await cloud.tell(row)
    asked = request(vcpus=0, min_revision=row.revision)
    await cloud.place(asked)
    decision = await cloud.decided(asked)
    while decision.host_id != "host-new":
        assert decision.host_id == "host-old"  # a wish, which the ledger would refuse
        await asyncio.sleep(0.1)
        cloud.batches.clear()
        await cloud.place(asked)
        decision = await cloud.decided(asked)
    assert decision.hosts == 1


async def test_sigterm_ends_it_in_good_order(cloud: Cloud) -> None:
    await cloud.start_scheduler()
    cloud.schedulers[0].terminate()
    assert await asyncio.wait_for(cloud.schedulers[0].wait(), 60) == 0
