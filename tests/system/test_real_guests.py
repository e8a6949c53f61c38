"""Goal: real guests are made once, outlive the services that made them, and leave nothing behind.

Method: a cloud with its own libvirtd and QEMU under TCG; processes, domains, files, mounts and
claims are counted from outside, before and after.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from stead.v1 import instance_pb2

from services.runtime.ids import new_id
from tests.clouds import Client, Cloud, client, cloud, eventually
from tests.hypervisors import guest_image

ACTIVE = instance_pb2.INSTANCE_STATE_ACTIVE


def qemus(of: Cloud) -> dict[int, float]:
    """QEMU processes whose files lie under the cloud's home: pid and start time."""
    found = {}
    for process in psutil.process_iter(["pid", "name", "cmdline", "create_time"]):
        words = " ".join(process.info["cmdline"] or [])
        if (process.info["name"] or "").startswith("qemu-system") and str(of.home) in words:
            found[process.info["pid"]] = process.info["create_time"]
    return found


def create(as_: Client, name: str, flavor_id: str, image_id: str) -> str:
    """The id of a new instance."""
    request = instance_pb2.CreateInstanceRequest(
        request_id=new_id(), name=name, flavor_id=flavor_id, image_id=image_id
    )
    return as_.call(as_.instances.CreateInstance, request).instance.id


def get(as_: Client, instance_id: str) -> instance_pb2.Instance:
    """The instance as it is now."""
    return as_.call(
        as_.instances.GetInstance, instance_pb2.GetInstanceRequest(id=instance_id)
    ).instance


def console(as_: Client, instance_id: str) -> str:
    """What the guest has written so far."""
    request = instance_pb2.GetConsoleOutputRequest(id=instance_id)
    return as_.call(as_.instances.GetConsoleOutput, request).output


def traces(of: Cloud) -> dict[str, object]:
    """All that an instance could leave behind, but for cache and logs."""
    kept = ("cache", "logs", "postgres", "run", "images", "log")
    files = {
        str(path.relative_to(of.home))
        for path in of.home.rglob("*")
        if path.is_file() and not any(part in kept for part in path.relative_to(of.home).parts)
    }
    socket = of.home / "libvirt" / "run" / "libvirt-sock"
    domains = subprocess.run(
        ["virsh", "-c", f"qemu+unix:///system?socket={socket}", "list", "--all", "--uuid"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.split()  # fmt: skip
    return {
        "domains": domains,
        "processes": qemus(of),
        "files": files,
        "mounts": [
            line for line in Path("/proc/mounts").read_text().splitlines() if str(of.home) in line
        ],
        "links": sorted(link.name for link in Path("/sys/class/net").iterdir()),
        "claims": of.sql("SELECT count(*) FROM claim"),
        "used": of.sql("SELECT used_vcpus, used_memory_mib, used_disk_gib, claim_count FROM host"),
    }


@pytest.mark.timeout(600)
def test_a_guest_boots_says_who_it_is_and_leaves_nothing() -> None:
    """Create, ACTIVE, its own words on the console, delete; then all is as before."""
    with cloud() as of, client(of) as as_:
        flavor_id, image_id = as_.flavor(), as_.image(guest_image())
        warm = create(as_, "warm", flavor_id, image_id)
        eventually(lambda: get(as_, warm).state == ACTIVE, "the first guest is ACTIVE")
        of.run("instance", "delete", "warm", "--wait")
        before = traces(of)
        instance_id = create(as_, "web", flavor_id, image_id)
        line = f"STEAD-GUEST name=web id={instance_id}"
        eventually(lambda: get(as_, instance_id).state == ACTIVE, "the guest is ACTIVE")
        eventually(lambda: line in console(as_, instance_id), "the guest says who it is")
        assert len(qemus(of)) == 1
        of.run("instance", "delete", "web", "--wait")
        assert traces(of) == before


@pytest.mark.timeout(600)
def test_three_guests_outlive_compute_and_conductor_while_they_boot() -> None:
    """kill -9 of both while QEMU boots: the same QEMU processes before and after, each instance
    ACTIVE once.
    """
    with cloud() as of, client(of) as as_:
        flavor_id, image_id = as_.flavor(), as_.image(guest_image())
        ids = [create(as_, f"g{number}", flavor_id, image_id) for number in range(3)]
        eventually(lambda: len(qemus(of)) == 3, "three QEMUs run", every_s=0.05)
        before = qemus(of)
        services = of.services()
        for service in ("compute", "conductor"):
            os.kill(int(services[service][0]["pid"]), signal.SIGKILL)
        eventually(lambda: all(get(as_, i).state == ACTIVE for i in ids), "all are ACTIVE")
        for instance_id in ids:
            line = f"id={instance_id}"
            eventually(
                lambda i=instance_id, w=line: w in console(as_, i), "the guest says who it is"
            )  # type: ignore[misc]  # a lambda with defaults
        eventually(of.healthy, "the cloud is whole again")
        assert qemus(of) == before


@pytest.mark.timeout(600)
def test_an_owner_who_powers_off_inside_the_guest_finds_it_stopped() -> None:
    """What a guest does by itself is an observation; it ends as STOPPED and is not started again.
    MECHANICS B1.
    """
    with cloud() as of, client(of) as as_:
        flavor_id, image_id = as_.flavor(), as_.image(guest_image())
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name="off", flavor_id=flavor_id, image_id=image_id,
            user_data=b"#!/bin/sh\n(sleep 3; poweroff) &\n",
        )  # fmt: skip
        instance_id = as_.call(as_.instances.CreateInstance, request).instance.id
        eventually(
            lambda: get(as_, instance_id).state == instance_pb2.INSTANCE_STATE_STOPPED,
            "it is STOPPED",
        )
        time.sleep(3)
        stopped = get(as_, instance_id)
        assert stopped.power == instance_pb2.INSTANCE_POWER_OFF
        assert stopped.state == instance_pb2.INSTANCE_STATE_STOPPED
        assert qemus(of) == {}
        of.run("instance", "delete", "off", "--wait")
