"""Several replicas of api: each a door of the same cloud, and none of them needed for long."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.v1 import instance_pb2
from stead.v1.instance_pb2_grpc import InstanceServiceStub

from services.cli.edges.processes import start_ticks
from tests.system.launched import PATIENCE_S, STEAD, Launched, eventually, launched

INSTANCES = 5


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """Two replicas, a fake fleet, a flavor and an image."""
    disk = tmp_path_factory.mktemp("image") / "disk"
    disk.write_bytes(bytes(1 << 20))
    with launched() as made:
        made.up("--api-replicas", "2")
        made.ok("flavor", "create", "tiny")
        made.ok("image", "import", str(disk), "--name", "disk")
        yield made


def replicas(cloud: Launched) -> list[dict[str, Any]]:
    """The replicas of api as `stead status` has them."""
    return [s for s in cloud.ask("status")["services"] if s["name"] == "api"]


def through(cloud: Launched, replica: int) -> Launched:
    """The same cloud by the door of one replica alone."""
    endpoint = replicas(cloud)[replica]["endpoint"]
    return Launched(
        cloud.home,
        cloud.port,
        {"STEAD_ENDPOINT": endpoint, "STEAD_TOKEN_FILE": str(cloud.home / "admin.token")},
    )


def create(name: str, *more: str) -> tuple[str, ...]:
    """The words that ask for an instance."""
    return ("instance", "create", name, "--flavor", "tiny", "--image", "disk", *more)


def kill(cloud: Launched, label: str) -> int:
    """Ends a replica without a word; its pid."""
    pid = cloud.pids()[label]
    os.kill(pid, signal.SIGKILL)
    return pid


def await_back(cloud: Launched, label: str, killed: int) -> None:
    """Waits until another process has its place, and all is well."""
    eventually(
        lambda: cloud.pids().get(label, killed) != killed and cloud.healthy(), f"{label} is back"
    )


def test_status_names_each_replica_with_its_doors(cloud: Launched) -> None:
    found = replicas(cloud)
    assert [(r["replica"], r["state"]) for r in found] == [(0, "running"), (1, "running")]
    assert found[0]["endpoint"] == cloud.endpoint
    assert len({r["endpoint"] for r in found}) == len({r["admin_endpoint"] for r in found}) == 2
    lines = [line.split() for line in cloud.ok("status").splitlines() if line.startswith("api")]
    assert [line[1] for line in lines] == ["0", "1"]
    assert lines[1][5] == found[1]["endpoint"]
    assert {"api.log", "api-1.log"} <= {path.name for path in (cloud.home / "logs").iterdir()}


def test_what_one_replica_accepted_the_other_shows_at_once(cloud: Launched) -> None:
    first, second = through(cloud, 0), through(cloud, 1)
    for number in range(5):
        made = first.ask(*create(f"seen-{number}"))
        seen = second.ask("instance", "show", made["id"])
        assert int(seen["revision"]) >= int(made["revision"])
        second.ok("instance", "update", made["id"], "--label", f"n={number}")
        assert first.ask("instance", "show", f"seen-{number}")["labels"] == {"n": str(number)}


def test_one_replica_is_restarted_alone(cloud: Launched) -> None:
    before = cloud.pids()
    killed = kill(cloud, "api-1")
    await_back(cloud, "api-1", killed)
    after = cloud.pids()
    assert {label for label, pid in before.items() if after[label] != pid} == {"api-1"}
    assert [r["restarts"] for r in replicas(cloud)] == [0, 1]
    assert through(cloud, 1).stead("instance", "list").returncode == 0


def test_commands_go_on_while_a_replica_is_gone(cloud: Launched) -> None:
    killed = kill(cloud, "api-0")
    cloud.ok(*create("meanwhile", "--wait"))
    await_back(cloud, "api-0", killed)


class Watch:
    """`stead instance watch` as a program reads it."""

    def __init__(self, cloud: Launched, *more: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self.of = subprocess.Popen(
            [STEAD, "instance", "watch", "--output", "json", *more],
            env=cloud.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.of.stdout is not None
        for line in iter(self.of.stdout.readline, ""):
            self.lines.append(json.loads(line))  # each must be seen at once

    def seen(self) -> list[tuple[str, int]]:
        """Name and version of each change, as they came."""
        changes = [line["change"]["instance"] for line in list(self.lines) if "change" in line]
        return [(change["name"], int(change["version"])) for change in changes]

    def end(self) -> None:
        self.of.send_signal(signal.SIGINT)
        self.of.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)


def versions(seen: list[tuple[str, int]]) -> dict[str, list[int]]:
    """The versions of each name in the order in which they came."""
    found: dict[str, list[int]] = {}
    for name, version in seen:
        found.setdefault(name, []).append(version)
    return found


def test_a_watch_goes_on_at_the_other_replica_without_loss(cloud: Launched) -> None:
    watch = Watch(cloud)
    try:
        eventually(lambda: any("snapshot_done" in line for line in watch.lines), "a snapshot")
        last = {}
        for label in ("api-0", "api-1"):
            killed = kill(cloud, label)
            for number in range(INSTANCES):
                made = cloud.ask(*create(f"{label}-{number}", "--wait"))
                last[made["name"]] = int(made["version"])
            await_back(cloud, label, killed)
        eventually(
            lambda: all((name, version) in watch.seen() for name, version in last.items()),
            "the watch has every instance as it is",
        )
    finally:
        watch.end()
    for name, counted in versions(watch.seen()).items():
        if name in last:
            assert counted == list(range(1, last[name] + 1)), name


def test_a_token_of_one_replica_is_good_at_the_other_after_its_death(cloud: Launched) -> None:
    first, second = through(cloud, 0), through(cloud, 1)
    before = Watch(first)
    try:
        eventually(lambda: any("snapshot_done" in line for line in before.lines), "a snapshot")
        first.ok(*create("heard", "--wait"))
        eventually(lambda: ("heard", 3) in before.seen(), "it was heard of")
    finally:
        killed = kill(cloud, "api-0")
        before.end()
    token = [line["resume_token"] for line in before.lines if line["resume_token"]][-1]
    made = second.ask(*create("missed", "--wait"))
    after = Watch(second, "--resume-token", token)
    try:
        eventually(lambda: ("missed", int(made["version"])) in after.seen(), "it was made up for")
    finally:
        after.end()
    assert not any("existing" in line for line in after.lines)
    assert versions(after.seen())["missed"] == list(range(1, int(made["version"]) + 1))
    await_back(cloud, "api-0", killed)


def test_pages_of_one_list_may_come_from_either(cloud: Launched) -> None:
    for number in range(INSTANCES):
        cloud.ok(*create(f"page-{number}"))
    token = (cloud.home / "admin.token").read_text().strip()
    metadata = (("authorization", f"Bearer {token}"),)
    listed: list[str] = []
    page = instance_pb2.ListInstancesRequest(page_size=2)
    with contextlib.ExitStack() as open_:
        doors = itertools.cycle(
            InstanceServiceStub(open_.enter_context(grpc.insecure_channel(row["endpoint"])))
            for row in replicas(cloud)
        )
        for door in doors:
            answer = door.ListInstances(page, metadata=metadata, timeout=PATIENCE_S)
            listed += [instance.id for instance in answer.instances]
            page.page_token = answer.next_page_token
            if not page.page_token:
                break
    assert len(listed) > 2 * page.page_size
    assert listed == [instance["id"] for instance in cloud.ask("instance", "list")]


def test_up_with_another_number_is_refused_and_down_ends_them_all(tmp_path: Path) -> None:
    with launched() as fresh:
        fresh.up("--api-replicas", "3")
        assert len(replicas(fresh)) == 3
        refused = fresh.stead("up", "--detach", "--api-replicas", "2")
        assert refused.returncode == 5
        assert "--api-replicas" in refused.stderr
        ran = list(fresh.pids().values())
        fresh.ok("down")
        assert all(start_ticks(pid) is None for pid in ran)
        fresh.up()
        assert len(replicas(fresh)) == 1


def test_a_home_of_before_there_were_replicas_comes_up(tmp_path: Path) -> None:
    with launched() as earlier:
        earlier.up()
        earlier.ok("flavor", "create", "kept")
        earlier.ok("down")
        state = earlier.state()
        del state["options"]["api_replicas"]
        (earlier.home / "run" / "state.json").write_text(json.dumps(state))
        earlier.up()
        assert [flavor["name"] for flavor in earlier.ask("flavor", "list")] == ["kept"]
