"""`stead operation`: list, show, wait, watch, cancel."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from stead.v1 import operation_pb2, operation_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import completing
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import (
    WAIT_S,
    AllProjectsFlag,
    DryRunFlag,
    FilterFlag,
    OrderFlag,
    OutputFlag,
    PatienceFlag,
    ResumeFlag,
    around,
    group,
)
from services.cli.edges.commands.waiting import raise_unless_done
from services.cli.edges.commands.watching import events, follow_one, show_event
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, phase_teller, show_line, show_many, show_one
from services.cli.flows.wait import await_operation
from services.cli.logic.conditions import both, condition
from services.cli.logic.sentences import line_of
from services.domain.errors import Invalid

app = group("Accepted work: what was asked for, how far it is, why it failed.")
OperationId = Annotated[
    str,
    typer.Argument(metavar="OPERATION", help="Its id.", autocompletion=completing.operations),
]
RUNNING = "OPERATION_STATE_RUNNING"


def _stub(api: Api) -> operation_pb2_grpc.OperationServiceStub:
    return operation_pb2_grpc.OperationServiceStub(api.channel)


@app.command("list", epilog=taught("operation list"))
def list_all(
    instance: Annotated[
        str,
        typer.Option(
            metavar="INSTANCE",
            help="Only of this one: name or id.",
            autocompletion=completing.instances,
        ),
    ] = "",
    conditions: FilterFlag = "",
    order_by: OrderFlag = "",
    all_projects: AllProjectsFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Lists operations, oldest first.

    Conditions name id, action, state, phase, resource_id, actor or request_id.
    """
    with connected(around()) as api:
        about = condition("resource_id", named.instance_id(api, instance)) if instance else ""
        request = operation_pb2.ListOperationsRequest(
            filter=both(about, conditions), order_by=order_by, all_projects=all_projects
        )
        rows = named.all_as_json(api, _stub(api).ListOperations, request, "operations")
    show_many("operation", rows, output)


@app.command("show")
def show(operation: OperationId, output: OutputFlag = Output.TABLE) -> None:
    """Shows one operation with the times of its phases."""
    with connected(around()) as api:
        request = operation_pb2.GetOperationRequest(id=operation)
        show_one(as_json(api.call(_stub(api).GetOperation, request).operation), output)


@app.command("wait")
def wait(
    operation: OperationId, timeout: PatienceFlag = WAIT_S, output: OutputFlag = Output.TABLE
) -> None:
    """Waits for the end of an operation.

    Exit code 1 if it failed, 6 if there was no room, 7 if it takes too long.
    """
    with connected(around()) as api:
        request = operation_pb2.GetOperationRequest(id=operation)
        found = as_json(api.call(_stub(api).GetOperation, request).operation)
        ended = await_operation(
            api, found, timeout_s=timeout, show=phase_teller(word_for(found["action"]), output)
        )
    show_one(ended, output)
    raise_unless_done(dict(ended))


@app.command("watch", epilog=taught("operation watch"))
def watch(
    operation: Annotated[
        str,
        typer.Argument(
            metavar="OPERATION",
            help="Its id; all of the project if left out.",
            autocompletion=completing.operations,
        ),
    ] = "",
    conditions: FilterFlag = "",
    resume_token: ResumeFlag = "",
    all_projects: AllProjectsFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shows each step of an operation to its end.

    Without an id it shows those of all, until interrupted. Of one: exit code 1 if it failed, 6 if
    there was no room.

    A lost connection is opened again and nothing is left out. With --output json each event is one
    object on a line.
    """
    if operation and (conditions or resume_token or all_projects):
        words = "of one operation there is nothing to choose"
        raise Invalid("INVALID_FIELD", words, field="OPERATION")
    with connected(around()) as api:
        if operation:
            _watch_one(api, operation, output)
            return
        request = operation_pb2.WatchOperationsRequest(
            filter=conditions, all_projects=all_projects, resume_token=resume_token
        )
        for event in events(api, _stub(api).WatchOperations, request, output=output):
            show_event("operation", event, output)


def _watch_one(api: Api, operation: str, output: Output) -> None:
    seen: dict[str, Any] = {}
    for row in _versions(api, operation):
        seen = row
        if output is Output.JSON:
            show_line({"operation": row})
        else:
            print(line_of("operation", row, revision=int(row["revision"])), flush=True)
    raise_unless_done(seen)


def _versions(api: Api, operation: str) -> Iterator[dict[str, Any]]:
    """Each version once, whatever is opened again, to the one that has ended."""
    request = operation_pb2.WatchOperationRequest(id=operation)
    version = 0
    for answer in follow_one(api, _stub(api).WatchOperation, request):
        if answer.operation.version > version:
            version = answer.operation.version
            row = as_json(answer.operation)
            yield row
            if row["state"] != RUNNING:
                return


@app.command("cancel")
def cancel(
    operation: OperationId, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE
) -> None:
    """Calls off what no host has begun.

    That is the creation of an instance that still waits for a host; the instance is then DELETED.

    Whatever is further can be ended by `stead instance delete`.
    """
    with connected(around()) as api:
        request = operation_pb2.CancelOperationRequest(id=operation)
        manner = Manner(output, dry_run)
        show_one(
            carry_out(api, _stub(api).CancelOperation, request, what="", manner=manner), output
        )


def word_for(action: str) -> str:
    """`create instance` for OPERATION_ACTION_CREATE_INSTANCE."""
    return action.removeprefix("OPERATION_ACTION_").replace("_", " ").lower()
