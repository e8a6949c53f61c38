"""`stead instance`: start, pause, unpause, suspend, resume; and how any one wish is carried out."""

from collections.abc import Callable
from typing import Any

from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import connected
from services.cli.edges.commands.flags import (
    WAIT_S,
    DryRunFlag,
    InstanceWord,
    OutputFlag,
    TimeoutFlag,
    WaitFlag,
    around,
)
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, show_one


def turn(what: str, instance: str, call: Callable[..., Any], manner: Manner) -> None:
    """Asks it of the instance and shows the instance then. `call` gives, of a stub and the id, the
    method and its request.
    """
    with connected(around()) as api:
        stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
        instance_id = named.instance_id(api, instance)
        method, request = call(stub, instance_id)
        turned = carry_out(api, method, request, what=f"{what} {instance}", manner=manner)
        show_one(turned, manner.output)


def start(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Switches a STOPPED instance on. With --wait it returns when the guest runs."""
    turn(
        "start",
        instance,
        lambda stub, id_: (stub.StartInstance, instance_pb2.StartInstanceRequest(id=id_)),
        Manner(output, dry_run, wait, timeout),
    )


def pause(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Freezes an ACTIVE instance: it stays in memory and does nothing."""
    turn(
        "pause",
        instance,
        lambda stub, id_: (stub.PauseInstance, instance_pb2.PauseInstanceRequest(id=id_)),
        Manner(output, dry_run, wait, timeout),
    )


def unpause(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Lets a PAUSED instance go on where it was."""
    turn(
        "unpause",
        instance,
        lambda stub, id_: (stub.UnpauseInstance, instance_pb2.UnpauseInstanceRequest(id=id_)),
        Manner(output, dry_run, wait, timeout),
    )


def suspend(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Writes an instance's memory to its host's disk and switches it off."""
    turn(
        "suspend",
        instance,
        lambda stub, id_: (stub.SuspendInstance, instance_pb2.SuspendInstanceRequest(id=id_)),
        Manner(output, dry_run, wait, timeout),
    )


def resume(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Lets a SUSPENDED instance go on where it was."""
    turn(
        "resume",
        instance,
        lambda stub, id_: (stub.ResumeInstance, instance_pb2.ResumeInstanceRequest(id=id_)),
        Manner(output, dry_run, wait, timeout),
    )
