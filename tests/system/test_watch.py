"""Goal: a client that watches sees every state of every instance, in order, as the change log has
it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from pathlib import Path

import grpc
import pytest
from stead.v1 import instance_pb2

from services.runtime.ids import new_id
from tests.clouds import Client, Cloud, client, cloud, eventually, kernel_tar

DELETED = instance_pb2.INSTANCE_STATE_DELETED


class Watcher:
    """Collects a watch in a thread until it is ended."""

    def __init__(self, as_: Client, all_projects: bool) -> None:
        request = instance_pb2.WatchInstancesRequest(all_projects=all_projects)
        self._stream = as_.instances.WatchInstances(request, metadata=as_.metadata)
        self.messages: list[instance_pb2.WatchInstancesResponse] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for message in self._stream:
                self.messages.append(message)

    def end(self) -> None:
        """Ends the watch."""
        assert self._stream.is_active(), self._stream.details()
        self._stream.cancel()
        self._thread.join(60)

    def changes(self) -> list[instance_pb2.WatchInstancesResponse]:
        """The changes after the snapshot, as they came."""
        return [m for m in self.messages if m.WhichOneof("event") == "change"]


def live_through(as_: Client, count: int, image: Path) -> None:
    """Creates and deletes instances, several at a time."""
    flavor_id, image_id = as_.flavor(), as_.image(image)
    ids = []
    for number in range(count):
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=f"w{number}", flavor_id=flavor_id, image_id=image_id
        )
        ids.append(as_.call(as_.instances.CreateInstance, request).instance.id)
    for instance_id in ids:
        request_ = instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=instance_id)
        as_.call(as_.instances.DeleteInstance, request_)
    empty = instance_pb2.ListInstancesRequest()
    eventually(
        lambda: not as_.call(as_.instances.ListInstances, empty).instances, "all are deleted"
    )


def logged(of: Cloud, project: str = "") -> list[tuple[int, str, int]]:
    """(revision, id, version) of each change of an instance in the log."""
    where = f"AND project_id = '{project}'" if project else ""
    rows = of.sql(
        f"SELECT revision, id, version FROM change WHERE kind = 1 {where} ORDER BY revision"
    )
    return [
        (int(revision), id_, int(version))
        for revision, id_, version in (row.split("|") for row in rows.splitlines())
    ]


@pytest.mark.timeout(600)
def test_a_watch_sees_what_the_change_log_has(tmp_path: Path) -> None:
    """Versions of an instance count 1, 2, 3 …, revisions only grow, nothing is left out or
    invented.
    """
    with cloud("--driver", "fake") as of, client(of) as admin:
        member_token = of.run(
            "token", "create", "--project", "p2", "--role", "member"
        ).stdout.strip()
        with client(of, member_token) as member:
            everything, own = Watcher(admin, True), Watcher(member, False)
            eventually(lambda: bool(everything.messages and own.messages), "both have a snapshot")
            live_through(admin, 25, kernel_tar(tmp_path / "k.tar"))
            log = logged(of)
            eventually(lambda: len(everything.changes()) >= len(log), "the watch has all changes")
            everything.end()
            own.end()
        seen = [
            (m.revision, m.change.instance.id, m.change.instance.version)
            for m in everything.changes()
        ]
        assert seen == log
        by_instance: dict[str, list[instance_pb2.Instance]] = defaultdict(list)
        for message in everything.changes():
            by_instance[message.change.instance.id].append(message.change.instance)
        assert len(by_instance) == 25
        for versions in by_instance.values():
            assert [i.version for i in versions] == list(range(1, len(versions) + 1))
            assert versions[0].state == instance_pb2.INSTANCE_STATE_REQUESTED
            assert versions[-1].state == DELETED
        # Another project's watch has nothing of it.
        assert own.changes() == []


@pytest.mark.timeout(600)
def test_a_watch_that_begins_in_the_middle_misses_nothing(tmp_path: Path) -> None:
    """Snapshot and changes fit together: each instance's versions go on where the snapshot has
    them.
    """
    with cloud("--driver", "fake", STEAD_COMPUTE_FAKE_DELAY_S="0.05") as of, client(of) as admin:
        work = threading.Thread(
            target=live_through, args=(admin, 40, kernel_tar(tmp_path / "k.tar"))
        )
        work.start()
        watchers = []
        for _ in range(8):
            watchers.append(Watcher(admin, True))
            work.join(0.15)
        work.join(240)
        assert not work.is_alive()
        log = logged(of)
        last = {id_: version for _, id_, version in log}
        for watcher in watchers:
            eventually(lambda w=watcher: complete(w, last), "a watch sees every last version")  # type: ignore[misc]  # a lambda with a default
            watcher.end()
            known: dict[str, int] = {}
            for message in watcher.messages:
                event = message.WhichOneof("event")
                if event == "existing":
                    known[message.existing.id] = message.existing.version
                elif event == "change":
                    instance = message.change.instance
                    assert instance.version == known.get(instance.id, 0) + 1
                    known[instance.id] = instance.version


def complete(watcher: Watcher, last: dict[str, int]) -> bool:
    """Whether the watcher has seen the last version of every instance that it knows of, and the
    newest of all.
    """
    seen = {m.change.instance.id: m.change.instance.version for m in watcher.changes()}
    living = {m.existing.id for m in watcher.messages if m.WhichOneof("event") == "existing"}
    newest = max(last)
    return newest in seen and all(seen.get(id_) == last[id_] for id_ in living | set(seen))
