"""Every action in every standing that a cloud can be brought to: allowed or refused as the table
says, with the code and the reason that it says, and told so beforehand by the instance itself.

The fake driver plays the hosts. Standings that pass by themselves are held by stopping the process
that would end them. Rows that no cloud gets to are written by hand in
tests/integration/conductor/test_power.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from stead.v1 import instance_pb2 as pb
from stead.v1 import operation_pb2

from services.domain.instance import (
    ASKED,
    Action,
    Illegal,
    Standing,
    State,
    Task,
    after,
    allowed_actions,
    blocked_actions,
)
from services.runtime.ids import new_id
from tests.clouds import Client, Cloud, client, cloud, eventually, kernel_tar

HELD = {
    Standing(State.REQUESTED, Task.SCHEDULING),
    Standing(State.BUILDING, Task.SPAWNING),
    Standing(State.BUILDING, Task.DELETING),
    Standing(State.ACTIVE, Task.NONE),
    Standing(State.ACTIVE, Task.STOPPING),
    Standing(State.ACTIVE, Task.REBOOTING),
    Standing(State.ACTIVE, Task.DELETING),
    Standing(State.STOPPED, Task.NONE),
    Standing(State.STOPPED, Task.STARTING),
    Standing(State.STOPPED, Task.DELETING),
    Standing(State.ERROR, Task.NONE),
    Standing(State.PAUSED, Task.NONE),
    Standing(State.SUSPENDED, Task.NONE),
    Standing(State.ACTIVE, Task.PAUSING),
    Standing(State.PAUSED, Task.UNPAUSING),
    Standing(State.ACTIVE, Task.SUSPENDING),
    Standing(State.SUSPENDED, Task.RESUMING),
    Standing(State.STOPPED, Task.REBOOTING),
    Standing(State.PAUSED, Task.DELETING),
    Standing(State.SUSPENDED, Task.DELETING),
}
# What must be done before it can be asked of an ACTIVE one, and how that ends.
BEFORE = {
    Action.START: (Action.STOP, State.STOPPED),
    Action.UNPAUSE: (Action.PAUSE, State.PAUSED),
    Action.RESUME: (Action.SUSPEND, State.SUSPENDED),
}


class Stage:
    """A cloud of fake hosts and what its instances are made from."""

    def __init__(self, of: Cloud, as_: Client, image: Path) -> None:
        self.of, self.as_ = of, as_
        self.flavor_id, self.image_id = as_.flavor(), as_.image(image)
        self.huge_id = as_.flavor("huge", vcpus=1024, memory_mib=1 << 26)

    def create(self, flavor_id: str = "") -> str:
        request = pb.CreateInstanceRequest(
            request_id=new_id(),
            name=f"t-{new_id()}",
            flavor_id=flavor_id or self.flavor_id,
            image_id=self.image_id,
        )
        return str(self.as_.call(self.as_.instances.CreateInstance, request).instance.id)

    def get(self, instance_id: str) -> pb.Instance:
        request = pb.GetInstanceRequest(id=instance_id)
        return self.as_.call(self.as_.instances.GetInstance, request).instance

    def standing(self, instance_id: str) -> Standing:
        found = self.get(instance_id)
        return Standing(State(found.state), Task(found.task))

    def until(self, instance_id: str, state: State, task: Task = Task.NONE) -> str:
        wanted = Standing(state, task)
        eventually(lambda: self.standing(instance_id) == wanted, f"{instance_id} is {wanted}")
        return instance_id

    def ask(self, action: Action, instance_id: str, *, dry: bool = False) -> Any:
        """The action's own call."""
        request_id = new_id()
        match action:
            case Action.UPDATE:
                request = pb.UpdateInstanceRequest(
                    request_id=request_id, id=instance_id, validate_only=dry, labels={"a": "b"},
                    update_mask=FieldMask(paths=["labels"]),
                )  # fmt: skip
            case Action.HARD_REBOOT:
                request = pb.RebootInstanceRequest(
                    request_id=request_id, id=instance_id, validate_only=dry,
                    kind=pb.REBOOT_KIND_HARD,
                )  # fmt: skip
            case _:
                kind = getattr(pb, f"{action.name.capitalize()}InstanceRequest")
                request = kind(request_id=request_id, id=instance_id, validate_only=dry)
        verb = type(request).__name__.removesuffix("InstanceRequest")
        method = getattr(self.as_.instances, f"{verb}Instance")
        return self.as_.once(method, request)

    @contextlib.contextmanager
    def held(self, service: str) -> Iterator[None]:
        """Nothing moves in this service."""
        pids = [int(row["pid"]) for row in self.of.services()[service]]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with cloud("--driver", "fake", "--fake-hosts", "2") as of, client(of) as as_:
        yield Stage(of, as_, kernel_tar(tmp_path_factory.mktemp("table") / "k.tar"))


def brought_to_every_standing(stage: Stage) -> Iterator[list[str]]:
    """Instances in every standing of HELD, for as long as the caller looks at them."""
    active = [stage.create() for _ in range(16)]
    for instance_id in active:
        stage.until(instance_id, State.ACTIVE)
    stopped, paused, suspended = active[:3] + active[15:], active[7:10], active[10:13]
    for action, state, chosen in (
        (Action.STOP, State.STOPPED, stopped),
        (Action.PAUSE, State.PAUSED, paused),
        (Action.SUSPEND, State.SUSPENDED, suspended),
    ):
        for instance_id in chosen:
            stage.ask(action, instance_id)
            stage.until(instance_id, state)
    lost = stage.until(stage.create(stage.huge_id), State.ERROR)
    with stage.held("compute"):
        stage.ask(Action.START, stopped[0])
        stage.ask(Action.DELETE, stopped[1])
        stage.ask(Action.STOP, active[3])
        stage.ask(Action.REBOOT, active[4])
        stage.ask(Action.DELETE, active[5])
        stage.ask(Action.UNPAUSE, paused[0])
        stage.ask(Action.DELETE, paused[1])
        stage.ask(Action.RESUME, suspended[0])
        stage.ask(Action.DELETE, suspended[1])
        stage.ask(Action.PAUSE, active[13])
        stage.ask(Action.SUSPEND, active[14])
        stage.ask(Action.HARD_REBOOT, stopped[3])
        building = [stage.create(), stage.create()]
        for instance_id in building:
            stage.until(instance_id, State.BUILDING, Task.SPAWNING)
        stage.ask(Action.DELETE, building[1])
        with stage.held("scheduler"):
            yield [*active, *building, lost, stage.create()]


def test_every_action_in_every_standing_is_answered_as_the_table_says(stage: Stage) -> None:
    for instance_ids in brought_to_every_standing(stage):
        assert {stage.standing(instance_id) for instance_id in instance_ids} == HELD
        for instance_id in instance_ids:
            standing = stage.standing(instance_id)
            check_told(stage.get(instance_id), standing)
            for action in Action:
                assert answer(stage, action, instance_id) == expected(standing, action), (
                    standing,
                    action,
                )
            assert stage.standing(instance_id) == standing


def check_told(instance: pb.Instance, standing: Standing) -> None:
    """What the instance says of itself is what the table says of its standing."""
    assert list(instance.allowed_actions) == [a.value for a in allowed_actions(standing)]
    told = [(b.action, b.reason, b.message) for b in instance.blocked_actions]
    table = [(b.action.value, b.why.reason, b.why.message) for b in blocked_actions(standing)]
    assert told == table


def expected(standing: Standing, action: Action) -> tuple[str, str]:
    """Code and reason by the table."""
    following = after(standing, ASKED[action])
    if isinstance(following, Illegal):
        return grpc.StatusCode.FAILED_PRECONDITION.name, following.reason
    return grpc.StatusCode.OK.name, ""


def answer(stage: Stage, action: Action, instance_id: str) -> tuple[str, str]:
    """Code and reason by the cloud, which is only asked whether it would."""
    try:
        stage.ask(action, instance_id, dry=True)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        for detail in status.details:
            cause = error_details_pb2.ErrorInfo()
            if detail.Unpack(cause):
                return error.code().name, cause.reason
        return error.code().name, ""
    return grpc.StatusCode.OK.name, ""


@pytest.mark.parametrize("action", list(Action))
def test_an_action_that_is_said_to_be_allowed_is_accepted(stage: Stage, action: Action) -> None:
    instance_id = stage.until(stage.create(), State.ACTIVE)
    if action in BEFORE:
        first, state = BEFORE[action]
        stage.ask(first, instance_id)
        stage.until(instance_id, state)
    assert action.value in list(stage.get(instance_id).allowed_actions)
    operation = stage.ask(action, instance_id).operation
    wait = operation_pb2.WaitOperationRequest(id=operation.id)
    ended = stage.as_.call(stage.as_.operations.WaitOperation, wait).operation
    assert ended.state == operation_pb2.OPERATION_STATE_DONE


@pytest.mark.parametrize("action", list(Action))
def test_what_is_deleted_takes_no_action(stage: Stage, action: Action) -> None:
    instance_id = stage.until(stage.create(), State.ACTIVE)
    stage.ask(Action.DELETE, instance_id)

    def gone() -> bool:
        try:
            stage.get(instance_id)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return False

    eventually(gone, "the instance is gone")
    assert answer(stage, action, instance_id) == ("NOT_FOUND", "INSTANCE_NOT_FOUND")
