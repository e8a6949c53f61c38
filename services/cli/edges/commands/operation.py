"""`stead operation`: list, show, wait."""

from typing import Annotated

import typer
from stead.v1 import operation_pb2, operation_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands.flags import (
    WAIT_S,
    AllProjectsFlag,
    OutputFlag,
    TimeoutFlag,
    around,
    group,
)
from services.cli.edges.commands.waiting import raise_unless_done
from services.cli.edges.terminal import Output, phase_teller, show_many, show_one
from services.cli.flows.wait import await_operation

app = group("Accepted work: what was asked for, how far it is, why it failed.")
OperationId = Annotated[str, typer.Argument(metavar="OPERATION", help="Its id.")]


def _stub(api: Api) -> operation_pb2_grpc.OperationServiceStub:
    return operation_pb2_grpc.OperationServiceStub(api.channel)


@app.command("list")
def list_all(
    instance: Annotated[
        str, typer.Option(metavar="INSTANCE", help="Only of this one: name or id.")
    ] = "",
    all_projects: AllProjectsFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Lists operations, oldest first."""
    with connected(around()) as api:
        about = named.condition("resource_id", named.instance_id(api, instance)) if instance else ""
        request = operation_pb2.ListOperationsRequest(filter=about, all_projects=all_projects)
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
    operation: OperationId, timeout: TimeoutFlag = WAIT_S, output: OutputFlag = Output.TABLE
) -> None:
    """Waits for the end of an operation.

    Exit code 1 if it failed, 6 if there was no room.
    """
    with connected(around()) as api:
        request = operation_pb2.GetOperationRequest(id=operation)
        found = as_json(api.call(_stub(api).GetOperation, request).operation)
        ended = await_operation(
            api, found, timeout_s=timeout, show=phase_teller(word_for(found["action"]), output)
        )
    show_one(ended, output)
    raise_unless_done(dict(ended))


def word_for(action: str) -> str:
    """`create instance` for OPERATION_ACTION_CREATE_INSTANCE."""
    return action.removeprefix("OPERATION_ACTION_").replace("_", " ").lower()
