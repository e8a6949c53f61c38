"""What an operator sees of a cloud: a request id through every service's log, figures and channelz
of each service on its admin port.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from stead.v1 import flavor_pb2, instance_pb2, operation_pb2

from services.runtime.ids import new_id
from tests.clouds import Client, Cloud, client, cloud, eventually, kernel_tar

SERVICES = ("api", "conductor", "scheduler", "compute")
REQUEST_ID = "observed-7d1b"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud("--driver", "fake", "--fake-hosts", "2") as made:
        yield made


@pytest.fixture(scope="module")
def public(running: Cloud) -> Iterator[Client]:
    with client(running) as made:
        yield made


@pytest.fixture(scope="module")
def operation(running: Cloud, public: Client, tmp_path_factory: Any) -> operation_pb2.Operation:
    """The operation of an instance that was asked for under the request id, ended."""
    image = public.image(kernel_tar(tmp_path_factory.mktemp("image") / "guest.tar"))
    request = instance_pb2.CreateInstanceRequest(
        request_id=new_id(), name="observed", flavor_id=public.flavor(), image_id=image
    )
    traced = (*public.metadata, ("x-request-id", REQUEST_ID), ("traceparent", PARENT))
    answer, call = public.instances.CreateInstance.with_call(request, metadata=traced, timeout=60)
    assert dict(call.trailing_metadata())["x-request-id"] == REQUEST_ID
    wait = operation_pb2.WaitOperationRequest(id=answer.operation.id)
    wait.timeout.FromSeconds(50)
    return public.call(public.operations.WaitOperation, wait).operation


def lines(running: Cloud, service: str) -> list[dict[str, Any]]:
    """Every structured line of a service's log."""
    said = (running.home / "logs" / f"{service}.log").read_text().splitlines()
    return [json.loads(line) for line in said if line.startswith("{")]


def names(value: object, wanted: str) -> bool:
    """Whether a field of a line, however deep, is the wanted text."""
    if isinstance(value, dict):
        return any(names(inner, wanted) for inner in value.values())
    if isinstance(value, list):
        return any(names(inner, wanted) for inner in value)
    return value == wanted


def ask(admin: str, path: str) -> tuple[int, str]:
    """An HTTP GET on an admin port."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(admin.removeprefix("unix:"))
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def figures(running: Cloud, service: str) -> Figures:
    """What a service's /metrics says, by name and sorted labels."""
    status, body = ask(running.services()[service][0]["admin_endpoint"], "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def the_one(found: Figures, name: str, **labels: str) -> float:
    """The value of that name and those labels."""
    return found[name, tuple(sorted(labels.items()))]


@pytest.mark.parametrize("service", SERVICES)
def test_the_request_id_is_in_the_log_of_each_service(
    running: Cloud, operation: operation_pb2.Operation, service: str
) -> None:
    def found() -> bool:
        return any(names(line, REQUEST_ID) for line in lines(running, service))

    eventually(found, f"{REQUEST_ID} in the log of {service}", within_s=60)
    with_id = [line for line in lines(running, service) if names(line, REQUEST_ID)]
    assert any(names(line, PARENT) for line in with_id), "and the traceparent beside it"


def test_the_request_id_is_in_the_operation(operation: operation_pb2.Operation) -> None:
    assert operation.state == operation_pb2.OPERATION_STATE_DONE
    assert operation.correlation_id == REQUEST_ID
    assert operation.traceparent == PARENT


@pytest.mark.parametrize("service", SERVICES)
def test_every_line_of_a_log_is_structured(
    running: Cloud, operation: operation_pb2.Operation, service: str
) -> None:
    for line in lines(running, service):
        assert line["service"] == service
        assert {"event", "level", "timestamp"} <= set(line)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_alive_and_ready_over_http(running: Cloud, service: str) -> None:
    admin = running.services()[service][0]["admin_endpoint"]
    assert ask(admin, "/healthz") == (200, "alive\n")
    assert ask(admin, "/readyz") == (200, "ready\n")


def test_api_shows_rate_errors_and_duration_of_each_method(
    running: Cloud, public: Client, operation: operation_pb2.Operation
) -> None:
    with pytest.raises(grpc.RpcError):
        public.once(public.flavors.GetFlavor, flavor_pb2.GetFlavorRequest(id=new_id()))
    found = figures(running, "api")
    create = "stead.v1.InstanceService/CreateInstance"
    get = "stead.v1.FlavorService/GetFlavor"
    assert the_one(found, "stead_rpc_calls_total", method=create, code="OK") == 1
    assert the_one(found, "stead_rpc_duration_seconds_count", method=create) == 1
    assert the_one(found, "stead_rpc_calls_total", method=get, code="NOT_FOUND") >= 1
    assert ("stead_watch_lag_revisions", ()) in found
    lanes = {dict(labels)["lane"] for name, labels in found if name == "stead_lane_waiting"}
    assert len(lanes) >= 4
    assert any(n == "stead_lane_batch_items_count" and v > 0 for (n, _), v in found.items())


def test_an_open_watch_is_counted(running: Cloud, public: Client) -> None:
    watch = public.instances.WatchInstances(
        instance_pb2.WatchInstancesRequest(), metadata=public.metadata, timeout=120
    )
    next(watch)

    def counted() -> bool:
        found = figures(running, "api")
        return found.get(("stead_watchers", (("kind", "INSTANCE"),)), 0) == 1

    eventually(counted, "one watcher", within_s=60)
    method = "stead.v1.InstanceService/WatchInstances"
    assert the_one(figures(running, "api"), "stead_rpc_open_calls", method=method) == 1
    watch.cancel()


def test_the_scheduler_shows_how_full_the_fleet_is(
    running: Cloud, operation: operation_pb2.Operation
) -> None:
    def shows(name: str, value: float, **labels: str) -> Callable[[], bool]:
        return lambda: the_one(figures(running, "scheduler"), name, **labels) == value

    hosts = shows("stead_fleet_hosts", 2, up="true", enabled="true")
    eventually(hosts, "two hosts", within_s=60)
    used = shows("stead_fleet_used", 1, resource="vcpus", open="true")
    eventually(used, "one vCPU used", within_s=60)
    assert the_one(
        figures(running, "scheduler"), "stead_fleet_target", resource="vcpus", open="true"
    )


def test_the_conductor_shows_operations_by_state_and_age(
    running: Cloud, public: Client, operation: operation_pb2.Operation
) -> None:
    compute = running.services()["compute"][0]["pid"]
    labels = {
        "action": "CREATE_INSTANCE",
        "state": "RUNNING",
        "phase": "BUILDING",
    }
    key = tuple(sorted(labels.items()))
    os.kill(compute, signal.SIGSTOP)
    try:
        made = running.json("instance", "show", "observed")
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name="halfway",
            flavor_id=made["flavor_id"],
            image_id=made["image_id"],
        )
        public.call(public.instances.CreateInstance, request)

        def building() -> bool:
            return figures(running, "conductor").get(("stead_operations", key), 0) == 1

        eventually(building, "one operation that builds", within_s=60)
        assert figures(running, "conductor")["stead_operations_oldest_seconds", key] > 0
    finally:
        os.kill(compute, signal.SIGCONT)
    running.run("instance", "delete", "halfway", "--wait")
    assert ("stead_operations", key) not in figures(running, "conductor")


def test_the_conductor_counts_the_operations_that_it_has_ended(
    running: Cloud, public: Client, operation: operation_pb2.Operation
) -> None:
    """By what became of them: what fails can be told from what is done."""
    huge = public.flavor("huge", vcpus=1024)
    request = instance_pb2.CreateInstanceRequest(
        request_id=new_id(),
        name="homeless",
        flavor_id=huge,
        image_id=running.json("instance", "show", "observed")["image_id"],
    )
    public.call(public.instances.CreateInstance, request)
    failed = {"action": "CREATE_INSTANCE", "state": "FAILED", "reason": "NO_VALID_HOST"}
    done = {"action": "CREATE_INSTANCE", "state": "DONE", "reason": ""}

    def count(labels: dict[str, str]) -> float:
        key = ("stead_operations_ended_total", tuple(sorted(labels.items())))
        return figures(running, "conductor").get(key, 0)

    eventually(lambda: count(failed) == 1, "one operation that failed", within_s=60)
    assert count(done) >= 1


def test_every_figure_is_explained_and_every_explained_one_is_there(
    running: Cloud, public: Client, operation: operation_pb2.Operation
) -> None:
    families = {
        family.name
        for service in SERVICES
        for family in text_string_to_metric_families(
            ask(running.services()[service][0]["admin_endpoint"], "/metrics")[1]
        )
        if family.name.startswith("stead_")
    }
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `stead_")]
    explained = {n for row in rows for n in re.findall(r"`(stead_\w+?)(?:_total)?`", row)}
    # The info's own name is without its ending.
    assert {name.removesuffix("_info") for name in families} == {
        name.removesuffix("_info") for name in explained
    }


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_shows_its_release_and_its_process(running: Cloud, service: str) -> None:
    found = figures(running, service)
    assert any(n == "stead_info" and dict(x)["service"] == service for n, x in found)
    assert the_one(found, "process_cpu_seconds_total") > 0
    assert the_one(found, "process_resident_memory_bytes") > 0


@pytest.mark.parametrize("service", SERVICES)
def test_channelz_of_each_service_shows_its_servers(running: Cloud, service: str) -> None:
    admin = running.services()[service][0]["admin_endpoint"]
    with grpc.insecure_channel(admin) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        assert stub.GetServers(channelz_pb2.GetServersRequest(), timeout=60).server
        if service != "conductor":
            assert stub.GetTopChannels(channelz_pb2.GetTopChannelsRequest(), timeout=60).channel


def test_the_admin_sockets_are_the_owners_alone(running: Cloud) -> None:
    for service in SERVICES:
        socket_file = Path(running.services()[service][0]["admin_endpoint"].removeprefix("unix:"))
        assert socket_file.parent.stat().st_mode & 0o077 == 0
