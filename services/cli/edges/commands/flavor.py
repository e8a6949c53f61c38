"""`stead flavor`: create, list, show, delete."""

from typing import Annotated

import typer
from stead.v1 import flavor_pb2, flavor_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import completing
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import (
    DryRunFlag,
    FilterFlag,
    OrderFlag,
    OutputFlag,
    around,
    group,
)
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, show_many, show_one
from services.domain.errors import Invalid

app = group("Sizes in which instances come. Cloud admins make them.")
FlavorWord = Annotated[
    str, typer.Argument(metavar="FLAVOR", help="Name or id.", autocompletion=completing.flavors)
]


def _stub(api: Api) -> flavor_pb2_grpc.FlavorServiceStub:
    return flavor_pb2_grpc.FlavorServiceStub(api.channel)


@app.command("create", epilog=taught("flavor create"))
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, unique in the cloud.")],
    vcpus: Annotated[int, typer.Option(metavar="N", help="Virtual CPUs.")] = 1,
    memory_mib: Annotated[int, typer.Option(metavar="N", help="Memory in MiB.")] = 128,
    disk_gib: Annotated[int, typer.Option(metavar="N", help="Disk in GiB.")] = 1,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Offers a new size."""
    with connected(around()) as api:
        request = flavor_pb2.CreateFlavorRequest(name=name)
        _fill(request, {"vcpus": vcpus, "memory_mib": memory_mib, "disk_gib": disk_gib})
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).CreateFlavor, request, what="", manner=manner), output)


@app.command("list")
def list_all(
    conditions: FilterFlag = "", order_by: OrderFlag = "", output: OutputFlag = Output.TABLE
) -> None:
    """Lists the sizes on offer.

    Conditions name id or name.
    """
    with connected(around()) as api:
        request = flavor_pb2.ListFlavorsRequest(filter=conditions, order_by=order_by)
        rows = named.all_as_json(api, _stub(api).ListFlavors, request, "flavors")
    show_many("flavor", rows, output)


@app.command("show")
def show(flavor: FlavorWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one size."""
    with connected(around()) as api:
        request = flavor_pb2.GetFlavorRequest(id=named.flavor_id(api, flavor))
        show_one(as_json(api.call(_stub(api).GetFlavor, request).flavor), output)


@app.command("delete")
def delete(
    flavor: FlavorWord, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE
) -> None:
    """Takes a size off the offer; instances made from it keep it."""
    with connected(around()) as api:
        request = flavor_pb2.DeleteFlavorRequest(id=named.flavor_id(api, flavor))
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).DeleteFlavor, request, what="", manner=manner), output)


def _fill(request: flavor_pb2.CreateFlavorRequest, amounts: dict[str, int]) -> None:
    for field, amount in amounts.items():
        try:
            setattr(request, field, amount)
        except ValueError as error:
            raise Invalid("INVALID_FIELD", f"{amount} is out of range", field=field) from error
