"""`stead instance`: update, stop, reboot, evacuate, delete."""

from typing import Annotated, Any

import typer
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, connected
from services.cli.edges.commands.flags import (
    WAIT_S,
    DryRunFlag,
    InstanceWord,
    OutputFlag,
    TimeoutFlag,
    WaitFlag,
    around,
)
from services.cli.edges.commands.instance_power import turn
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, show_one
from services.cli.flows.relabel import Labels, relabel
from services.cli.logic.labels import labels_of, relabelled
from services.domain.errors import Invalid

GraceFlag = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=3600,
        help="How long the guest may take to shut down by itself; then it is switched off. [60]",
    ),
]


def _stub(api: Api) -> instance_pb2_grpc.InstanceServiceStub:
    return instance_pb2_grpc.InstanceServiceStub(api.channel)


def update(
    instance: InstanceWord,
    name: Annotated[str, typer.Option(metavar="NAME", help="Its new name.")] = "",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Sets a label; as often as wanted."),
    ] = None,
    remove_label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Takes a label off; as often as wanted."),
    ] = None,
    etag: Annotated[
        str, typer.Option(metavar="ETAG", help="Only if it is still this version of it.")
    ] = "",
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Changes the name and the labels of an instance. Labels that are not named stay."""
    added, removed = labels_of(label or []), remove_label or []
    if not (name or added or removed):
        words = "say what to change: --name, --label or --remove-label"
        raise Invalid("INVALID_FIELD", words, field="--name")
    with connected(around()) as api:
        request = instance_pb2.UpdateInstanceRequest(
            id=named.instance_id(api, instance), name=name, etag=etag
        )
        request.update_mask.paths.extend(["name"] if name else [])
        manner = Manner(output, dry_run)
        if added or removed:
            changed = _relabel(api, request, (added, removed), manner)
        else:
            changed = carry_out(api, _stub(api).UpdateInstance, request, what="", manner=manner)
        show_one(changed, output)


def _relabel(
    api: Api,
    request: instance_pb2.UpdateInstanceRequest,
    wanted: tuple[dict[str, str], list[str]],
    manner: Manner,
) -> dict[str, Any]:
    added, removed = wanted
    request.update_mask.paths.append("labels")

    def read() -> tuple[Labels, str]:
        seen = api.call(_stub(api).GetInstance, instance_pb2.GetInstanceRequest(id=request.id))
        return dict(seen.instance.labels), seen.instance.etag

    def write(labels: Labels, etag: str) -> dict[str, Any]:
        request.etag = etag
        request.labels.clear()
        request.labels.update(labels)
        return carry_out(api, _stub(api).UpdateInstance, request, what="", manner=manner)

    def change(labels: Labels) -> Labels:
        return relabelled(labels, added=added, removed=removed)

    return relabel(read, write, change=change, etag=request.etag)


def stop(
    instance: InstanceWord,
    grace: GraceFlag = None,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shuts an ACTIVE instance down; its disk stays. --wait returns when the guest is off."""
    with connected(around()) as api:
        request = instance_pb2.StopInstanceRequest(id=named.instance_id(api, instance))
        if grace is not None:
            request.timeout.FromMilliseconds(int(grace * 1000))
        manner = Manner(output, dry_run, wait, timeout)
        what = f"stop {instance}"
        show_one(carry_out(api, _stub(api).StopInstance, request, what=what, manner=manner), output)


def reboot(
    instance: InstanceWord,
    hard: Annotated[
        bool, typer.Option("--hard", help="Switch it off at once, as by pulling the plug.")
    ] = False,
    grace: GraceFlag = None,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Boots an ACTIVE instance anew. With --wait it returns when the guest runs again.

    With --hard also one that is off, paused or suspended; what was in its memory is lost then.
    """
    if hard and grace is not None:
        raise Invalid("INVALID_FIELD", "--hard gives no grace", field="--grace")
    kind = instance_pb2.REBOOT_KIND_HARD if hard else instance_pb2.REBOOT_KIND_SOFT
    with connected(around()) as api:
        request = instance_pb2.RebootInstanceRequest(id=named.instance_id(api, instance), kind=kind)
        if grace is not None:
            request.timeout.FromMilliseconds(int(grace * 1000))
        manner = Manner(output, dry_run, wait, timeout)
        what = f"reboot {instance}"
        show_one(
            carry_out(api, _stub(api).RebootInstance, request, what=what, manner=manner), output
        )


def evacuate(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Builds an instance of a dead host anew on another one. Only for cloud admins.

    Its host must be DOWN and fenced (stead host fence). The local disk is made anew from the image:
    what was written to the old one stays on the old host, until the instance is deleted.
    """
    turn(
        "evacuate",
        instance,
        lambda stub, id_: (stub.EvacuateInstance, instance_pb2.EvacuateInstanceRequest(id=id_)),
        Manner(output, dry_run, wait, timeout),
    )


def delete(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Deletes an instance with its disk. With --wait it returns when nothing of it is left."""
    with connected(around()) as api:
        request = instance_pb2.DeleteInstanceRequest(id=named.instance_id(api, instance))
        manner = Manner(output, dry_run, wait, timeout)
        what = f"delete {instance}"
        show_one(
            carry_out(api, _stub(api).DeleteInstance, request, what=what, manner=manner), output
        )
