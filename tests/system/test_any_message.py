"""Whatever a client sends, the whole cloud answers with a reason, in time, and goes on.

Every method that reflection shows is called with messages generated from its descriptor
(tests/wire.py), against a cloud as `stead up` starts it: none ends INTERNAL or UNKNOWN, none
without a reason, nothing is remembered of what was refused, every process stays the one that it
was, and its memory bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from stead.v1 import instance_pb2

from services.runtime.ids import new_id
from tests.clouds import Cloud, client, cloud, eventually, kernel_tar
from tests.wire import messages

EXAMPLES = 40
DEADLINE_S = 10.0
# A stream that is let in goes on; so long is listened to what it says first.
STREAM_S = 1.0
# How many mutations one generated message can carry.
WISHES_MAX = 3
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
GROWTH_BYTES_MAX = 192 * 1024 * 1024


@dataclass
class Stage:
    """A cloud with one of each thing, and what its methods are."""

    cloud: Cloud
    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]
    methods: list[MethodDescriptor]
    known: list[str]
    memory_bytes: dict[int, int] = field(default_factory=dict)

    def processes(self) -> dict[int, int]:
        """Resident bytes by process id, of the services."""
        rows = self.cloud.services()
        pids = [int(row["pid"]) for name in SERVICES for row in rows[name]]
        return {pid: psutil.Process(pid).memory_info().rss for pid in pids}

    def remembered(self) -> int:
        """How many mutations were ever accepted: each leaves its request."""
        return int(self.cloud.sql("SELECT count(*) FROM request"))


SERVICES = ("api", "scheduler", "conductor", "compute")


class _Reflected(grpc.StreamStreamClientInterceptor):
    """Puts the token on reflection's calls, whose client takes none."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(details._replace(metadata=self._metadata, timeout=60), requests)


def reflected(
    channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]
) -> list[MethodDescriptor]:
    """Every method of stead that the server's reflection shows."""
    shown = grpc.intercept_channel(channel, _Reflected(metadata))
    database = ProtoReflectionDescriptorDatabase(shown)
    pool = DescriptorPool(database)
    names = [name for name in database.get_services() if name.startswith("stead.")]
    return [method for name in names for method in pool.FindServiceByName(name).methods]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with cloud("--driver", "fake", "--fake-hosts", "3") as made, client(made) as as_:
        flavor_id = as_.flavor()
        image_id = as_.image(kernel_tar(tmp_path_factory.mktemp("any") / "k.tar"))
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name="web", flavor_id=flavor_id, image_id=image_id
        )
        answer = as_.call(as_.instances.CreateInstance, request)
        known = [flavor_id, image_id, answer.instance.id, answer.operation.id, request.request_id]
        known += [new_id(), as_.instances.ListInstances(
            instance_pb2.ListInstancesRequest(), metadata=as_.metadata, timeout=60
        ).resume_token]  # fmt: skip
        with grpc.insecure_channel(made.endpoint) as channel:
            yield Stage(made, channel, as_.metadata, reflected(channel, as_.metadata), known)


def test_every_method_takes_any_message(stage: Stage) -> None:
    before = stage.processes()
    assert len(stage.methods) > 30
    for method in stage.methods:
        accepted: list[bytes] = []
        before_all = stage.remembered()

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
            phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.lists(messages(method.input_type, stage.known), min_size=1, max_size=3))
        def takes(contents: list[bytes]) -> None:
            if was_let_in(stage, method, contents):  # noqa: B023  # called in this turn
                accepted.append(contents[0])  # noqa: B023  # as above

        takes()
        written = stage.remembered() - before_all
        assert written <= len(accepted) * WISHES_MAX, f"{method.full_name} wrote what it refused"
    after = stage.processes()
    assert set(after) == set(before), "a service did not live through it"
    grown = {pid: after[pid] - before[pid] for pid in after}
    assert max(grown.values()) < GROWTH_BYTES_MAX, grown


def was_let_in(stage: Stage, method: MethodDescriptor, contents: list[bytes]) -> bool:
    """Makes one call and checks how it was answered; whether it was let in."""
    error = refusal_of(stage, method, contents)
    if error is None:
        return True
    shown = f"{method.full_name} {contents!r}: {error.code()} {error.details()}"
    assert error.code() not in NEVER, shown
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert method.server_streaming or method.name == "WaitOperation", shown
        return True
    assert reason_of(error), shown
    return False


def refusal_of(
    stage: Stage, method: MethodDescriptor, contents: list[bytes]
) -> grpc.RpcError | None:
    """How one call was refused, None if it was not."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    timeout = STREAM_S if method.server_streaming else DEADLINE_S
    if method.client_streaming:
        call = stage.channel.stream_stream(path)(
            iter(contents), metadata=stage.metadata, timeout=timeout
        )
    else:
        call = stage.channel.unary_stream(path)(
            contents[0], metadata=stage.metadata, timeout=timeout
        )
    try:
        next(call, None)
    except grpc.RpcError as error:
        return error
    finally:
        call.cancel()
    return None


def reason_of(error: grpc.RpcError) -> str:
    """The stable reason inside an error; empty if it has none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        cause = error_details_pb2.ErrorInfo()
        if detail.Unpack(cause):
            return cause.reason
    return ""


def test_afterwards_it_still_does_its_work(stage: Stage) -> None:
    with client(stage.cloud) as as_:
        flavor_id = as_.flavor("afterwards")
        image_id = as_.image(kernel_tar(Path(stage.cloud.home) / "after.tar"), name="afterwards")
        answer = as_.call(
            as_.instances.CreateInstance,
            instance_pb2.CreateInstanceRequest(
                request_id=new_id(), name="afterwards", flavor_id=flavor_id, image_id=image_id
            ),
        )
        get = instance_pb2.GetInstanceRequest(id=answer.instance.id)
        eventually(
            lambda: (
                as_.call(as_.instances.GetInstance, get).instance.state
                == instance_pb2.INSTANCE_STATE_ACTIVE
            ),
            "an instance is ACTIVE after all this",
        )
