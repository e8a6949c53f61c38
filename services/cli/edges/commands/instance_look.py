"""`stead instance`: list, show, watch, wait."""

import time
from typing import Annotated, Any

import typer
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import completing
from services.cli.edges.commands.flags import (
    WAIT_S,
    AllProjectsFlag,
    FilterFlag,
    InstanceWord,
    OrderFlag,
    OutputFlag,
    PatienceFlag,
    ResumeFlag,
    around,
)
from services.cli.edges.commands.watching import SNAPSHOT_DONE, events, show_event, thing_in
from services.cli.edges.terminal import Output, say, show_many, show_one, standing_line
from services.cli.logic.awaited import check_state, is_there
from services.cli.logic.conditions import about, both, condition
from services.domain.errors import Invalid

STATES = tuple(instance_pb2.InstanceState.keys()[1:])
UntilFlag = Annotated[
    str, typer.Option(metavar="STATE", help="End when INSTANCE is in this state: ACTIVE.")
]


def _stub(api: Api) -> instance_pb2_grpc.InstanceServiceStub:
    return instance_pb2_grpc.InstanceServiceStub(api.channel)


def list_all(
    conditions: FilterFlag = "",
    order_by: OrderFlag = "",
    all_projects: AllProjectsFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Lists the project's living instances, oldest first.

    All pages are true to one moment.

    Conditions name id, name, state, task, power, flavor_id, image_id or labels.KEY; those of cloud
    admins also project_id and host_id.
    """
    with connected(around()) as api:
        request = instance_pb2.ListInstancesRequest(
            filter=conditions, order_by=order_by, all_projects=all_projects
        )
        rows = named.all_as_json(api, _stub(api).ListInstances, request, "instances")
    show_many("instance", rows, output)


def show(instance: InstanceWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one instance, and what can be asked of it now.

    `allowed_actions` would be accepted; `blocked_actions` would not, each with the cause.
    """
    with connected(around()) as api:
        request = instance_pb2.GetInstanceRequest(id=named.instance_id(api, instance))
        show_one(as_json(api.call(_stub(api).GetInstance, request).instance), output)


def watch(
    instance: Annotated[
        str,
        typer.Argument(
            metavar="INSTANCE",
            help="Name or id; all of the project if left out.",
            autocompletion=completing.instances,
        ),
    ] = "",
    until: UntilFlag = "",
    conditions: FilterFlag = "",
    resume_token: ResumeFlag = "",
    all_projects: AllProjectsFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shows what is there, then every change, in order.

    It ends when interrupted, or with --until; exit code 1 if that state cannot come any more. A
    lost connection is opened again and nothing is left out. With --output json each event is one
    object on a line.
    """
    if until and not instance:
        raise Invalid("INVALID_FIELD", "--until needs an instance", field="--until")
    state = check_state(until, STATES, flag="--until")
    which = about(instance) if instance else ""
    with connected(around()) as api:
        request = instance_pb2.WatchInstancesRequest(
            all_projects=all_projects, filter=both(which, conditions), resume_token=resume_token
        )
        for event in events(api, _stub(api).WatchInstances, request, output=output):
            show_event("instance", event, output)
            mark = event.WhichOneof("event") == SNAPSHOT_DONE
            if mark and instance and not event.snapshot_done.count and output is Output.TABLE:
                say(f'there is no instance "{instance}" yet; waiting for it')
            seen = thing_in(event)
            if seen is not None and state and is_there(as_json(seen), state):
                return


def wait(
    instance: InstanceWord,
    until: Annotated[
        str,
        typer.Option(metavar="STATE", help="Wait for this state, not for the end of the work."),
    ] = "",
    timeout: PatienceFlag = WAIT_S,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Waits until nothing is under way on an instance.

    Or, with --until, until it is in a state.

    Exit code 1 if it ends in ERROR, or if the state cannot come any more; 7 if it takes too long.
    """
    state = check_state(until, STATES, flag="--until")
    with connected(around()) as api:
        wanted = named.instance_id(api, instance)
        seen = _await(api, wanted, state, until_s=time.monotonic() + timeout)
    show_one(seen, output)


def _await(api: Api, wanted: str, state: str, *, until_s: float) -> dict[str, Any]:
    request = instance_pb2.WatchInstancesRequest(filter=condition("id", wanted))
    for event in events(api, _stub(api).WatchInstances, request, until_s=until_s):
        if event.WhichOneof("event") == SNAPSHOT_DONE and not event.snapshot_done.count:
            # It may have gone between two looks; a watch does not tell of what is DELETED.
            api.call(_stub(api).GetInstance, instance_pb2.GetInstanceRequest(id=wanted))
        seen = thing_in(event)
        if seen is not None:
            row = as_json(seen)
            there = is_there(row, state)
            standing_line(row, ended=there)
            if there:
                return row
    raise AssertionError("a watch has no end of its own")
