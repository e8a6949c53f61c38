"""`stead host`: list, show."""

from typing import Annotated

import typer
from stead.v1 import host_pb2, host_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands.flags import OutputFlag, around, group
from services.cli.edges.terminal import Output, show_many, show_one

app = group("Machines on which guests run. Only for cloud admins.")


def _stub(api: Api) -> host_pb2_grpc.HostServiceStub:
    return host_pb2_grpc.HostServiceStub(api.channel)


@app.command("list")
def list_all(output: OutputFlag = Output.TABLE) -> None:
    """Lists hosts with what is used of what may be used."""
    with connected(around()) as api:
        rows = named.all_as_json(api, _stub(api).ListHosts, host_pb2.ListHostsRequest(), "hosts")
    show_many("host", rows, output)


@app.command("show")
def show(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its id.")],
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shows one host with its capacity and use.

    And what its driver can do, and why that one was chosen.
    """
    with connected(around()) as api:
        answer = api.call(_stub(api).GetHost, host_pb2.GetHostRequest(id=host))
    show_one(as_json(answer.host), output)
