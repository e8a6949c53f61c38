"""Goal: whatever dies, supervision alone brings it back and nothing is lost, doubled or leaked.

Method: fifty fake hosts in one process, two hundred instances being built, one service after
another killed with kill -9 at a random moment (the seed is printed). In the end every instance is
ACTIVE, exactly as many guests exist, and the ledger equals their sum.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from stead.v1 import instance_pb2

from services.compute.edges.drivers.fake_guest import FakeGuest
from services.compute.edges.drivers.fake_journal import JOURNAL, read_guests
from services.runtime.ids import new_id
from tests.clouds import Client, Cloud, client, cloud, eventually, kernel_tar

SERVICES = ("api", "scheduler", "conductor", "compute", "nats", "postgres")
HOSTS, INSTANCES = 50, 200
ACTIVE = instance_pb2.INSTANCE_STATE_ACTIVE


def guests_of(home: Path) -> list[FakeGuest]:
    """The guests that the fake driver keeps, straight from its files."""
    journals = home.glob(f"compute/**/{JOURNAL}")
    return [guest for journal in journals for guest in read_guests(journal.parent).values()]


def ledger(of: Cloud) -> tuple[str, str]:
    """What the hosts' rows say is used, and what their claims add up to."""
    used = of.sql(
        "SELECT sum(used_vcpus), sum(used_memory_mib), sum(used_disk_gib), sum(claim_count)"
        " FROM host"
    )
    claims = of.sql("SELECT sum(vcpus), sum(memory_mib), sum(disk_gib), count(*) FROM claim")
    return used, claims


def create_all(as_: Client, names: list[str], flavor_id: str, image_id: str) -> None:
    """Asks for all instances, each with one request id however often it has to be asked."""
    for name in names:
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=name, flavor_id=flavor_id, image_id=image_id
        )
        as_.call(as_.instances.CreateInstance, request)


def listed(as_: Client) -> list[instance_pb2.Instance]:
    """All instances, over all pages."""
    request = instance_pb2.ListInstancesRequest(page_size=1000)
    return list(as_.call(as_.instances.ListInstances, request).instances)


def kill(of: Cloud, service: str) -> None:
    """kill -9 of a service's process, by `stead status`; waits until another one runs."""
    row = of.services()[service][0]
    os.kill(int(row["pid"]), signal.SIGKILL)
    eventually(
        lambda: of.services()[service][0]["pid"] not in (row["pid"], None, 0),
        f"{service} comes back",
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", SERVICES)
def test_two_hundred_instances_outlive_the_death_of(service: str, tmp_path: Path) -> None:
    """kill -9 of each service at a random moment of the building."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with (
        cloud(
            "--driver", "fake", "--fake-hosts", str(HOSTS), STEAD_COMPUTE_FAKE_DELAY_S="0.2"
        ) as of,
        client(of) as as_,
    ):
        flavor_id, image_id = as_.flavor(), as_.image(kernel_tar(tmp_path / "k.tar"))
        names = [f"n{number:03}" for number in range(INSTANCES)]
        asking = threading.Thread(target=create_all, args=(as_, names, flavor_id, image_id))
        asking.start()
        time.sleep(moments.uniform(0.0, 1.5))
        kill(of, service)
        asking.join(240)
        assert not asking.is_alive()
        eventually(lambda: all(i.state == ACTIVE for i in listed(as_)), "all are ACTIVE")
        found = listed(as_)
        assert sorted(instance.name for instance in found) == names
        assert len(guests_of(of.home)) == INSTANCES
        used, claims = ledger(of)
        assert used == claims
        assert claims.endswith(f"|{INSTANCES}")
        eventually(of.healthy, "the cloud is healthy")
