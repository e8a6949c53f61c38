"""Real guests that are killed, started and removed behind stead's back: noticed, and handled as the
policy says.

One guest for all of it, in the order of the tests: each begins where the one before ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from stead.v1 import instance_pb2

from tests.clouds import Client, Cloud, client, cloud, eventually
from tests.hypervisors import guest_image
from tests.system.test_real_guests import create, get, qemus

pytestmark = pytest.mark.timeout(600)
ACTIVE, STOPPED = instance_pb2.INSTANCE_STATE_ACTIVE, instance_pb2.INSTANCE_STATE_STOPPED


@dataclass
class Stage:
    """A cloud with one guest that runs."""

    of: Cloud
    as_: Client
    id: str

    def virsh(self, *words: str) -> str:
        """What an admin of the machine can do, past stead."""
        socket = self.of.home / "libvirt" / "run" / "libvirt-sock"
        done = subprocess.run(
            ["virsh", "-q", "-c", f"qemu+unix:///system?socket={socket}", *words],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def is_(self, state: int) -> bool:
        return get(self.as_, self.id).state == state


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with cloud() as of, client(of) as as_:
        id_ = create(as_, "web", as_.flavor(), as_.image(guest_image()))
        made = Stage(of, as_, id_)
        eventually(lambda: made.is_(ACTIVE), "it is ACTIVE")
        yield made


def test_a_qemu_that_is_killed_is_noticed_and_its_instance_stopped(stage: Stage) -> None:
    """kill -9 of the process: STOPPED, CRASHED, not started again; nothing differs afterwards."""
    [pid] = qemus(stage.of)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: stage.is_(STOPPED), "it is STOPPED")
    assert get(stage.as_, stage.id).power == instance_pb2.INSTANCE_POWER_CRASHED
    assert qemus(stage.of) == {}
    stage.of.run("audit")


def test_a_guest_that_is_started_past_stead_is_noticed_and_its_instance_active(
    stage: Stage,
) -> None:
    """`virsh start`: the wish follows; it is not switched off against its owner."""
    stage.virsh("start", stage.id)
    eventually(lambda: stage.is_(ACTIVE), "it is ACTIVE")
    assert len(qemus(stage.of)) == 1
    stage.of.run("audit")


def test_a_guest_that_is_destroyed_past_stead_is_noticed_and_its_instance_stopped(
    stage: Stage,
) -> None:
    """`virsh destroy`: STOPPED; START brings it back."""
    stage.virsh("destroy", stage.id)
    eventually(lambda: stage.is_(STOPPED), "it is STOPPED")
    stage.of.run("instance", "start", "web", "--wait")
    assert len(qemus(stage.of)) == 1


def test_a_guest_that_vanishes_is_told_as_lost_and_not_made_anew(stage: Stage) -> None:
    """Its domain and files are removed past stead, while compute is away, so that no agent
    remembers it: STOPPED with the fault, and the audit tells of it until the instance is deleted.
    """
    [compute] = stage.of.services()["compute"]
    os.kill(int(compute["pid"]), signal.SIGSTOP)
    stage.virsh("destroy", stage.id)
    stage.virsh("undefine", stage.id)
    [folder] = [p for p in stage.of.home.rglob(stage.id) if p.is_dir()]
    subprocess.run(["rm", "-r", "--", str(folder)], check=True)
    os.kill(int(compute["pid"]), signal.SIGKILL)
    eventually(lambda: stage.is_(STOPPED), "it is STOPPED")
    lost = get(stage.as_, stage.id)
    assert lost.power == instance_pb2.INSTANCE_POWER_CRASHED
    assert lost.fault.startswith("GUEST_LOST: ")
    told = stage.of.run("audit", check=False)
    assert told.returncode == 1
    assert "CLAIM_WITHOUT_GUEST" in told.stdout
    assert stage.virsh("list", "--all", "--uuid") == ""
    stage.of.run("instance", "delete", "web", "--wait")
    stage.of.run("audit")
