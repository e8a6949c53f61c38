"""Whatever a client sends, the whole cloud answers with a reason, in time, and goes on.

Every method that reflection shows is called with messages generated from its descriptor
(tests/wire.py), against a cloud as `stead up` starts it: none ends INTERNAL or UNKNOWN, none
without a reason, none past its deadline, nothing is committed by a call that was refused, every
process stays the one that it was, and its memory bounded.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
from stead.v1 import instance_pb2

from services.runtime.ids import new_id
from tests.clouds import Cloud, client, cloud, eventually, kernel_tar
from tests.dead_hosts import dead_host, strand, tell_of_guest
from tests.engines import PG_BIN
from tests.system.mutations import KEY
from tests.wire import Known, drawn

EXAMPLES = 60
# A stream that is let in goes on, and has said something by then; only a wait may be silent.
DEADLINE_S = 10.0
SILENT = {"WaitOperation"}
# An upload needs the bytes that its digest names; these others a state that nothing here has.
NEVER_LET_IN = {"ImportImage", "CancelOperation", "StartInstance"}
LET_IN = ""
LUCK = 5
# What a later method would take away is asked first, what takes away comes last.
FIRST = ("Evacuate",)
LAST = ("Stop", "Delete", "Remove")
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
# The second time all calls are made nothing new has to be kept.
GROWTH_BYTES_MAX = 48 * 1024 * 1024


@dataclass
class Stage:
    """A cloud with one of each thing, and what its methods are."""

    cloud: Cloud
    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]
    methods: list[MethodDescriptor]
    known: Known
    rows: subprocess.Popen[str]

    def processes(self) -> dict[int, int]:
        """Resident bytes by process id, of the services."""
        rows = self.cloud.services()
        pids = [int(row["pid"]) for name in SERVICES for row in rows[name]]
        return {pid: psutil.Process(pid).memory_info().rss for pid in pids}

    def remembered(self) -> int:
        """How many mutations were ever accepted: each leaves its request."""
        assert self.rows.stdin and self.rows.stdout  # noqa: PT018  # pipes of ours
        self.rows.stdin.write("SELECT count(*) FROM request;\n")
        self.rows.stdin.flush()
        return int(self.rows.stdout.readline())


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
        hosts = [str(row["id"]) for row in made.json("host", "list")]
        lost_id, dead_id, stray_id = (
            stranded(made, flavor_id, image_id),
            dead_host(made.sql),
            new_id(),
        )
        for epoch in (1, 2, 3):
            tell_of_guest(made.sql, dead_id, stray_id, epoch)
        key = made.home / "k.pub"
        key.write_text(KEY + "\n")
        known = {
            "flavor": [flavor_id],
            "image": [image_id],
            "instance": [answer.instance.id, lost_id, stray_id],
            "operation": [answer.operation.id],
            "host": [*hosts, dead_id],
            "project": ["p-1", "p-2", "p-3"],
            "key_pair": [made.json("keypair", "create", "k", str(key))["id"]],
        }
        with grpc.insecure_channel(made.endpoint) as channel, asked_rows(made) as rows:
            methods = reflected(channel, as_.metadata)
            yield Stage(made, channel, as_.metadata, methods, known, rows)


def stranded(of: Cloud, flavor_id: str, image_id: str) -> str:
    """An instance that may be evacuated."""
    words = ("--flavor", flavor_id, "--image", image_id, "--wait")
    of.run("instance", "create", "stranded", *words)
    instance_id = str(of.json("instance", "show", "stranded")["id"])
    strand(of.sql, instance_id)
    return instance_id


@contextlib.contextmanager
def asked_rows(of: Cloud) -> Iterator[subprocess.Popen[str]]:
    """A psql in the cloud's database that answers line by line."""
    words = ["-X", "-qAt", "-h", str(of.home / "run"), "-U", "stead", "-d", "stead"]
    with subprocess.Popen(
        [str(PG_BIN / "psql"), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as rows:
        yield rows
        rows.communicate(timeout=60)


def test_every_method_takes_any_message(stage: Stage) -> None:
    before = stage.processes()
    assert len(stage.methods) > 30
    methods = sorted(
        stage.methods, key=lambda m: m.name.startswith(LAST) - m.name.startswith(FIRST)
    )
    answers = {method.name: answers_with_luck(stage, method) for method in methods}
    shut = {name: told for name, told in answers.items() if LET_IN not in told}
    unexpected = {name: dict(shut[name]) for name in shut if name not in NEVER_LET_IN}
    assert not unexpected, unexpected
    between = stage.processes()
    for method in methods:
        answers_of(stage, method, EXAMPLES)
    after = stage.processes()
    assert set(after) == set(before), "a service did not live through it"
    grown = {pid: after[pid] - between[pid] for pid in after}
    assert max(grown.values()) < GROWTH_BYTES_MAX, grown


def answers_with_luck(stage: Stage, method: MethodDescriptor) -> Counter[str]:
    """How calls of this method were answered. What needs several right words at once needs more
    luck, and gets it at once: a later method may take away what this one is about.
    """
    told = answers_of(stage, method, EXAMPLES)
    if LET_IN in told or method.name in NEVER_LET_IN:
        return told
    return answers_of(stage, method, EXAMPLES * LUCK)


def answers_of(stage: Stage, method: MethodDescriptor, count: int) -> Counter[str]:
    """Makes that many calls of one method and checks how each was answered: the reasons. One that
    was refused may commit nothing.
    """
    told: Counter[str] = Counter()
    for contents in drawn(method.input_type, stage.known, count):
        remembered = stage.remembered()
        reason = answer_of(stage, method, contents)
        told[reason] += 1
        if reason != LET_IN:
            assert stage.remembered() == remembered, f"{method.full_name} {contents!r}"
    return told


def answer_of(stage: Stage, method: MethodDescriptor, contents: list[bytes]) -> str:
    """Makes one call and checks how it was answered: its reason, LET_IN if it was."""
    error = refusal_of(stage, method, contents)
    if error is None:
        return LET_IN
    shown = f"{method.full_name} {contents!r}: {error.code()} {error.details()}"
    assert error.code() not in NEVER, shown
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert method.name in SILENT, shown
        return LET_IN
    assert reason_of(error), shown
    return reason_of(error)


def refusal_of(
    stage: Stage, method: MethodDescriptor, contents: list[bytes]
) -> grpc.RpcError | None:
    """How one call was refused, None if it was not."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        call = stage.channel.stream_stream(path)(
            iter(contents), metadata=stage.metadata, timeout=DEADLINE_S
        )
    else:
        call = stage.channel.unary_stream(path)(
            contents[0], metadata=stage.metadata, timeout=DEADLINE_S
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
