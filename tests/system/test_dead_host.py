"""A host dies for good, its instance runs elsewhere, and the host comes back: with real processes.
MECHANICS C5, C7, C8.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.compute.edges.drivers.fake_guest import FakeGuest
from services.compute.edges.drivers.fake_journal import Journal, read_guests
from services.domain.instance import Power
from tests.clouds import Cloud, cloud, eventually, kernel_tar

LONELY = "lonely"
FLAGS = ("--driver", "fake", "--fake-hosts", "3")
QUICK = {"STEAD_CONDUCTOR_LEASE_S": "4", "STEAD_COMPUTE_BEAT_S": "1"}


# Another machine: an id of its own, no lock shared with this one, and no road but sockets in files.
APART = (
    "unshare", "--user", "--map-root-user", "--mount", "--net",
    "sh", "-ec", 'if [ -e /etc/machine-id ]; then mount --bind "$0" /etc/machine-id; fi; exec "$@"',
)  # fmt: skip


class Machine:
    """One more host, whose agent is a process of the test's own; `apart` as if on another machine,
    where api is reached and NATS is not.
    """

    def __init__(self, of: Cloud, folder: Path, *, apart: bool = False) -> None:
        [row] = of.services()["compute"]
        told = Path(f"/proc/{row['pid']}/environ").read_bytes().split(b"\0")
        known = dict(pair.decode().split("=", 1) for pair in told if b"=" in pair)
        self._environment = known | QUICK | {
            "STEAD_COMPUTE_HOST_ID": LONELY,
            "STEAD_COMPUTE_FAKE_HOSTS": "1",
            "STEAD_COMPUTE_STATE_DIR": str(folder),
            "STEAD_COMPUTE_ADMIN_LISTEN": f"unix:{folder}.admin",
        }  # fmt: skip
        self.guests_folder = folder / "fake" / LONELY
        self._log = folder.with_suffix(".log")
        self._words = [sys.executable, "-m", "services.compute"]
        if apart:
            machine_id = folder.with_suffix(".machine-id")
            machine_id.write_text(f"{uuid.uuid4().hex}\n")
            self._words = [*APART, str(machine_id), *self._words]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, env=self._environment, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def said(self) -> str:
        return self._log.read_text()

    def lose_power(self) -> None:
        """Nothing of it runs any more: neither its agent nor any guest."""
        self.kill()
        journal = Journal(self.guests_folder)
        for guest in list(journal.guests.values()):
            journal.put(replace(guest, power=Power.OFF.value))
        journal.close()

    def guests(self) -> list[FakeGuest]:
        return list(read_guests(self.guests_folder).values())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(*FLAGS, **QUICK) as made:
        tar = kernel_tar(tmp_path_factory.mktemp("image") / "guest.tar")
        made.run("image", "import", str(tar), "--name", "guest")
        made.run(
            "flavor", "create", "tiny", "--vcpus", "1", "--memory-mib", "64", "--disk-gib", "1"
        )
        yield made


@contextmanager
def machine(stage: Cloud, folder: Path) -> Iterator[Machine]:
    """The lonely host, UP."""
    made = Machine(stage, folder / "agent")
    made.start()
    try:
        eventually(lambda: state(stage) == "HOST_STATE_UP", "the host is UP")
        yield made
    finally:
        made.kill()


def state(stage: Cloud) -> str:
    found = {host["id"]: host["state"] for host in stage.json("host", "list")}
    return str(found.get(LONELY, ""))


def incarnation(stage: Cloud) -> int:
    return int(stage.sql("SELECT incarnation FROM host WHERE id = 'lonely'"))


def create_there(stage: Cloud, name: str) -> None:
    """An instance that only the lonely host could take."""
    others = [host["id"] for host in stage.json("host", "list") if host["id"] != LONELY]
    for host_id in others:
        stage.run("host", "disable", host_id, "--reason", "for a test")
    stage.run("instance", "create", name, "--flavor", "tiny", "--image", "guest", "--wait")
    for host_id in others:
        stage.run("host", "enable", host_id)
    assert stage.json("instance", "show", name)["host_id"] == LONELY


def test_a_dead_hosts_instance_runs_elsewhere_and_the_host_that_returns_stops_its_copy_first(
    stage: Cloud, tmp_path: Path
) -> None:
    with machine(stage, tmp_path) as lonely:
        create_there(stage, "web")
        before = stage.json("instance", "show", "web")
        lonely.kill()
        assert [guest.power for guest in lonely.guests()] == [Power.RUNNING], "its guest runs on"
        eventually(lambda: state(stage) == "HOST_STATE_DOWN", "the lease lapses")
        refused = stage.run("instance", "evacuate", "web", check=False)
        assert refused.returncode == 5
        assert "HOST_NOT_FENCED" in refused.stderr
        stage.run("host", "fence", LONELY, "--reason", "the plug is pulled")
        stage.run("instance", "evacuate", "web", "--wait")
        after = stage.json("instance", "show", "web")
        assert after["state"] == "INSTANCE_STATE_ACTIVE"
        assert after["host_id"] != LONELY
        assert int(after["epoch"]) > int(before["epoch"])

        lonely.start()
        eventually(lambda: state(stage) == "HOST_STATE_UP", "the host is back")
        eventually(lambda: [g.power for g in lonely.guests()] == [Power.OFF], "its copy is stopped")
        [kept] = lonely.guests()
        assert kept.prepared, "and nothing is erased"
        assert "fence" not in stage.json("host", "show", LONELY)
        now = stage.json("instance", "show", "web")
        assert (now["host_id"], now["epoch"]) == (after["host_id"], after["epoch"])
        assert now["state"] == "INSTANCE_STATE_ACTIVE"

        stage.run("instance", "delete", "web", "--wait")
        eventually(lambda: not lonely.guests(), "the owner's word erases what was kept")
        used = "SELECT used_vcpus FROM host WHERE id = 'lonely'"
        eventually(lambda: stage.sql(used) == "0", "its resources return")


@pytest.mark.slow
def test_after_a_loss_of_power_guests_start_only_from_a_view(stage: Cloud, tmp_path: Path) -> None:
    """The host loses power while the control plane is away: nothing runs there before a view came,
    and what its owner did not ask for is not started then.
    """
    with machine(stage, tmp_path) as lonely:
        create_there(stage, "db")
        rows = stage.services()["api"]
        for row in rows:
            os.kill(int(row["pid"]), signal.SIGSTOP)
        try:
            lonely.lose_power()
            lonely.start()
            with pytest.raises(AssertionError):
                eventually(
                    lambda: any(g.power == Power.RUNNING for g in lonely.guests()),
                    "a guest runs without a view",
                    within_s=5,
                )
        finally:
            for row in rows:
                os.kill(int(row["pid"]), signal.SIGCONT)
        eventually(
            lambda: stage.json("instance", "show", "db")["power"] == "INSTANCE_POWER_OFF",
            "what its host sees is told",
        )
        stage.run("instance", "start", "db", "--wait")
        assert [g.power for g in lonely.guests()] == [Power.RUNNING]
        stage.run("instance", "delete", "db", "--wait")


@pytest.mark.slow
def test_an_agent_whose_folder_is_lost_makes_nothing_anew_in_its_owners_place(
    stage: Cloud, tmp_path: Path
) -> None:
    """It tells that the guest is gone: an empty disk is not what was there."""
    with machine(stage, tmp_path) as lonely:
        create_there(stage, "mail")
        lonely.kill()
        for file in lonely.guests_folder.iterdir():
            file.unlink()
        lonely.start()
        eventually(
            lambda: stage.json("instance", "show", "mail")["power"] == "INSTANCE_POWER_CRASHED",
            "its loss is told",
        )
        assert lonely.guests() == []
        stage.run("instance", "delete", "mail", "--wait")


def test_a_twin_on_another_machine_acts_only_once_the_first_is_silent_and_then_alone(
    stage: Cloud, tmp_path: Path
) -> None:
    """HOST_IDENTITY_IN_USE during the lease; afterwards the first one is superseded, and ends
    touching nothing. MECHANICS D3.
    """
    twin = Machine(stage, tmp_path / "twin", apart=True)
    with machine(stage, tmp_path) as lonely:
        try:
            create_there(stage, "twice")
            first = incarnation(stage)
            twin.start()
            eventually(lambda: "HOST_IDENTITY_IN_USE" in twin.said(), "the twin is refused")
            assert (state(stage), incarnation(stage)) == ("HOST_STATE_UP", first)
            assert not twin.guests()

            lonely.signal(signal.SIGSTOP)
            eventually(lambda: incarnation(stage) == first + 1, "the twin is let in")
            lonely.signal(signal.SIGCONT)
            eventually(lonely.ended, "the first one ends")
            assert "superseded" in lonely.said()
            assert [guest.power for guest in lonely.guests()] == [Power.RUNNING], "untouched"
            eventually(
                lambda: stage.json("instance", "show", "twice")["power"].endswith("CRASHED"),
                "the new machine tells that it does not have the guest",
            )
            assert not twin.guests(), "and makes none anew"
        finally:
            twin.kill()
    stage.run("instance", "delete", "twice", "--wait", check=False)


def test_a_host_whose_bus_is_silent_beats_and_is_given_nothing(
    stage: Cloud, tmp_path: Path
) -> None:
    """Its words do not come back over NATS, so no command would come: UNKNOWN, until they do.
    MECHANICS D5.
    """
    deaf = Machine(stage, tmp_path / "deaf", apart=True)
    deaf.start()
    try:
        told = "SELECT bus_silent_for > 0 FROM lease WHERE host_id = 'lonely'"
        eventually(lambda: stage.sql(told) == "t", "it says so with its beats")
        eventually(lambda: state(stage) == "HOST_STATE_UNKNOWN", "it is UNKNOWN")
        before = stage.sql("SELECT beat_at FROM lease WHERE host_id = 'lonely'")
        eventually(
            lambda: stage.sql("SELECT beat_at FROM lease WHERE host_id = 'lonely'") != before,
            "it beats on",
        )
        assert state(stage) == "HOST_STATE_UNKNOWN"
    finally:
        deaf.kill()
    eventually(lambda: state(stage) == "HOST_STATE_DOWN", "silent, it is DOWN as any other")
