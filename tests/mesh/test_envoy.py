"""Goal: stead behind a real Envoy, with the configuration of docs/mesh.md, is for its users one
place that does not fail: a replica may be killed or drained, a stream may be cut.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stead.v1 import instance_pb2, operation_pb2

from services.runtime.ids import new_id
from stead_client import Door, Watch
from tests.clouds import Client, Cloud, client, cloud, eventually, kernel_tar
from tests.mesh.load import Load
from tests.mesh.proxy import Proxy, Times, proxy

ROOT = Path(__file__).parents[2]
STREAM_S = 2
IDLE_S = 2
SERVICES = {"api", "conductor", "scheduler", "compute"}


class Mesh:
    """A cloud with two replicas, an Envoy in front of them, and what an instance needs."""

    def __init__(self, made: Cloud, through: Proxy, flavor_id: str, image_id: str) -> None:
        self.cloud = made
        self.proxy = through
        self.flavor_id = flavor_id
        self.image_id = image_id

    def token(self, project: str) -> str:
        """The token of a member of the project."""
        return self.cloud.run("token", "create", "--project", project, "--for", "1h").stdout.strip()

    def load(self, project: str) -> Load:
        """Load in a project of its own."""
        size = {"flavor_id": self.flavor_id, "image_id": self.image_id}
        return Load(self.proxy, self.token(project), **size)

    def pids(self) -> dict[str, int]:
        """The pid of each replica by where it listens."""
        rows = self.cloud.services()["api"]
        return {row["endpoint"]: row["pid"] for row in rows if row["pid"]}

    def whole(self) -> bool:
        """Whether both replicas get calls."""
        return len(self.proxy.healthy()) == 2 and self.cloud.healthy()

    def wish(self, name: str) -> instance_pb2.CreateInstanceRequest:
        """A wish for an instance."""
        return instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=name, flavor_id=self.flavor_id, image_id=self.image_id
        )

    def live(self, token: str, count: int) -> None:
        """Creates instances and deletes each, through the proxy."""
        with self.proxy.channel() as channel:
            of = Client(channel, token)
            for number in range(count):
                made = of.once(of.instances.CreateInstance, self.wish(f"seen-{number}")).instance
                gone = instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=made.id)
                of.once(of.instances.DeleteInstance, gone)

    def logs_with(self, word: str) -> set[str]:
        """The services whose logs have that word."""
        logs = (self.cloud.home / "logs").glob("*.log")
        return {log.stem.partition("-")[0] for log in logs if word in log.read_text()}

    def logged(self, project: str) -> dict[str, list[int]]:
        """Versions by instance as the change log has them."""
        rows = self.cloud.sql(
            f"SELECT id, version FROM change WHERE kind = 1 AND project_id = '{project}'"
            " ORDER BY revision"
        )
        found: dict[str, list[int]] = defaultdict(list)
        for row in rows.splitlines():
            instance_id, version = row.split("|")
            found[instance_id].append(int(version))
        return found


class Watcher:
    """The Python client's watch in a thread, through a proxy; what it was handed, by instance."""

    def __init__(self, through: Proxy, token: str, folder: Path) -> None:
        file = folder / "watcher.token"
        file.touch(mode=0o600)
        file.write_text(token)
        config = ROOT / "docs" / "service-config.json"
        self.watch = Watch([Door(through.endpoint, file, config, through.certificate)])
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.begun = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        assert self.begun.wait(60), "the watch has no snapshot"

    def _follow(self) -> None:
        for message in self.watch.follow():
            if message.WhichOneof("event") == "snapshot_done":
                self.begun.set()
            if message.WhichOneof("event") == "change":
                instance = message.change.instance
                self.versions[instance.id].append(instance.version)

    def end(self) -> None:
        """Ends the watch."""
        self.watch.stop()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the watch goes on after its end"


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    flags = ("--driver", "fake", "--fake-hosts", "3", "--api-replicas", "2")
    with cloud(*flags, STEAD_API_DRAIN_DELAY_S="4") as made:
        with client(made) as admin:
            flavor_id = admin.flavor("tiny")
        guest = str(kernel_tar(folder / "guest.tar"))
        image = made.json("image", "import", guest, "--name", "guest", "--public")
        replicas = [row["endpoint"] for row in made.services()["api"]]
        with proxy(replicas, folder / "envoy") as through:
            yield Mesh(made, through, flavor_id, image["id"])


@pytest.fixture
def mesh(standing: Mesh) -> Mesh:
    """With both replicas taking calls."""
    eventually(standing.whole, "two healthy replicas behind the proxy")
    return standing


def test_a_call_keeps_its_request_id_from_the_proxy_to_the_operation_and_every_log(
    mesh: Mesh,
) -> None:
    own, traceparent = str(uuid.uuid4()), f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
    with mesh.proxy.channel() as channel:
        of = Client(channel, mesh.token("traced"))
        metadata = (*of.metadata, ("x-request-id", own), ("traceparent", traceparent))
        answer, call = of.instances.CreateInstance.with_call(
            mesh.wish("traced"), metadata=metadata, timeout=60
        )
        assert dict(call.initial_metadata())["x-request-id"] == own
        assert answer.operation.correlation_id == own
        assert answer.operation.traceparent == traceparent
        # Deleted sooner it could be gone before every service has heard of it.
        of.once(
            of.operations.WaitOperation,
            operation_pb2.WaitOperationRequest(
                id=answer.operation.id, timeout=duration_pb2.Duration(seconds=50)
            ),
        )
        gone = instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=answer.instance.id)
        answer, call = of.instances.DeleteInstance.with_call(gone, metadata=of.metadata, timeout=60)
        given = dict(call.initial_metadata())["x-request-id"]
    assert uuid.UUID(given) != uuid.UUID(own)
    assert answer.operation.correlation_id == given
    eventually(lambda: mesh.logs_with(own) >= SERVICES, "every service's log has the request id")


def test_the_side_car_takes_tls_alone_and_keeps_the_replicas_health_to_itself(mesh: Mesh) -> None:
    with grpc.insecure_channel(mesh.proxy.endpoint) as plaintext:
        of = Client(plaintext, mesh.token("plain"))
        with pytest.raises(grpc.RpcError) as refused:
            of.instances.ListInstances(instance_pb2.ListInstancesRequest(), timeout=60)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    with mesh.proxy.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_no_call_fails_when_a_replica_is_killed(mesh: Mesh) -> None:
    pids = mesh.pids()
    with mesh.load("killed") as load:
        load.goes_on()
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
            load.goes_on()
            eventually(mesh.whole, "the killed replica is back")
            load.goes_on()
    assert load.failed == []
    assert set(mesh.pids().values()).isdisjoint(pids.values())
    assert mesh.proxy.counted("cluster.api.upstream_rq_retry_success") > 0
    assert set(load.made) == set(mesh.logged("killed"))


def test_no_call_fails_and_none_is_tried_again_when_a_replica_is_drained(
    mesh: Mesh, tmp_path: Path
) -> None:
    pids = mesh.pids()
    retried = mesh.proxy.counted("cluster.api.upstream_rq_retry")
    watcher = Watcher(mesh.proxy, mesh.token("drained"), tmp_path)
    with mesh.load("drained") as load:
        load.goes_on()
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
            eventually(lambda pid=pid: pid not in mesh.pids().values(), "the replica has ended")
            load.goes_on()
            eventually(mesh.whole, "another takes its place")
            load.goes_on()
    assert load.failed == []
    assert mesh.proxy.counted("cluster.api.upstream_rq_retry") == retried
    assert set(load.made) == set(mesh.logged("drained"))
    eventually(
        lambda: watcher.versions == mesh.logged("drained"), "the watch has seen all the log has"
    )
    watcher.end()
    assert "API_STOPPING" in {refusal.reason for refusal in watcher.watch.refusals}


def test_a_replica_that_ends_says_so_first_and_goes_on_for_a_while(mesh: Mesh) -> None:
    endpoint, pid = next(iter(mesh.pids().items()))
    serving = health_pb2.HealthCheckResponse
    with grpc.insecure_channel(endpoint) as channel:
        asked = health_pb2.HealthCheckRequest(service="stead.v1.InstanceService")
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=120)
        assert next(watch).status == serving.SERVING
        os.kill(pid, signal.SIGTERM)
        assert next(watch).status == serving.NOT_SERVING
        of = Client(channel, mesh.token("late"))
        assert not of.once(
            of.instances.ListInstances, instance_pb2.ListInstancesRequest()
        ).instances
    eventually(lambda: pid not in mesh.pids().values(), "the replica has ended")


def test_a_wait_without_a_byte_outlives_the_time_of_an_idle_stream(
    mesh: Mesh, tmp_path: Path
) -> None:
    (scheduler,) = mesh.cloud.services()["scheduler"]
    times = Times(idle_s=IDLE_S)
    with proxy(list(mesh.pids()), tmp_path / "envoy", times) as through, through.channel() as on:
        of = Client(on, mesh.token("waits"))
        os.kill(scheduler["pid"], signal.SIGSTOP)
        try:
            made = of.once(of.instances.CreateInstance, mesh.wish("waited-for"))
            silent = duration_pb2.Duration(seconds=3 * IDLE_S)
            asked = operation_pb2.WaitOperationRequest(id=made.operation.id, timeout=silent)
            waited = of.once(of.operations.WaitOperation, asked).operation
            assert waited.state == operation_pb2.OPERATION_STATE_RUNNING
        finally:
            os.kill(scheduler["pid"], signal.SIGCONT)
        asked.timeout.FromSeconds(50)
        waited = of.once(of.operations.WaitOperation, asked).operation
        assert waited.state == operation_pb2.OPERATION_STATE_DONE


def test_a_silent_console_outlives_the_time_of_an_idle_stream(mesh: Mesh, tmp_path: Path) -> None:
    times = Times(idle_s=IDLE_S)
    with proxy(list(mesh.pids()), tmp_path / "envoy", times) as through, through.channel() as on:
        of = Client(on, mesh.token("types"))
        made = of.once(of.instances.CreateInstance, mesh.wish("typed-into"))
        until = duration_pb2.Duration(seconds=50)
        asked = operation_pb2.WaitOperationRequest(id=made.operation.id, timeout=until)
        of.once(of.operations.WaitOperation, asked)
        typed: queue.SimpleQueue[instance_pb2.OpenConsoleRequest | None] = queue.SimpleQueue()
        opening = instance_pb2.ConsoleOpening(id=made.instance.id, write=True)
        typed.put(instance_pb2.OpenConsoleRequest(opening=opening))
        screen = of.instances.OpenConsole(iter(typed.get, None), metadata=of.metadata, timeout=120)
        assert next(screen).HasField("opened")
        time.sleep(3 * IDLE_S)
        typed.put(instance_pb2.OpenConsoleRequest(input=b"count 3\n"))
        seen = b""
        while b"count 3\n1\n2\n3\n" not in seen:
            seen += next(screen).output.content
        typed.put(None)


def test_a_watch_outlives_the_time_of_its_route(mesh: Mesh, tmp_path: Path) -> None:
    replicas = list(mesh.pids())
    with proxy(replicas, tmp_path / "envoy", Times(watch_s=STREAM_S)) as through:
        token = mesh.token("cut")
        watcher = Watcher(through, token, tmp_path)
        for cuts in range(1, 4):
            mesh.live(token, 3)
            eventually(
                lambda cuts=cuts: through.counted("cluster.api.upstream_rq_timeout") >= cuts,
                "the proxy cuts the stream",
            )
        mesh.live(token, 1)
        eventually(
            lambda: watcher.versions == mesh.logged("cut"), "the watch has seen all the log has"
        )
        watcher.end()
    assert watcher.watch.reconnects >= 3
    assert {refusal.reason for refusal in watcher.watch.refusals} == {""}
