"""`stead flavor`: create, list, show, delete."""

from typing import Annotated

import typer
from stead.v1 import flavor_pb2, flavor_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected, new_request_id
from services.cli.edges.commands.flags import OutputFlag, around, group
from services.cli.edges.terminal import Output, show_many, show_one
from services.domain.errors import Invalid

app = group("Sizes in which instances come. Cloud admins make them.")
FlavorWord = Annotated[str, typer.Argument(metavar="FLAVOR", help="Name or id.")]


def _stub(api: Api) -> flavor_pb2_grpc.FlavorServiceStub:
    return flavor_pb2_grpc.FlavorServiceStub(api.channel)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, unique in the cloud.")],
    vcpus: Annotated[int, typer.Option(metavar="N", help="Virtual CPUs.")] = 1,
    memory_mib: Annotated[int, typer.Option(metavar="N", help="Memory in MiB.")] = 128,
    disk_gib: Annotated[int, typer.Option(metavar="N", help="Disk in GiB.")] = 1,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Offers a new size.

    Example: stead flavor create tiny --vcpus 1 --memory-mib 128 --disk-gib 1
    """
    with connected(around()) as api:
        request = flavor_pb2.CreateFlavorRequest(request_id=new_request_id(), name=name)
        _fill(request, {"vcpus": vcpus, "memory_mib": memory_mib, "disk_gib": disk_gib})
        show_one(as_json(api.call(_stub(api).CreateFlavor, request).flavor), output)


@app.command("list")
def list_all(output: OutputFlag = Output.TABLE) -> None:
    """Lists the sizes on offer."""
    with connected(around()) as api:
        request = flavor_pb2.ListFlavorsRequest()
        rows = named.all_as_json(api, _stub(api).ListFlavors, request, "flavors")
    show_many("flavor", rows, output)


@app.command("show")
def show(flavor: FlavorWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one size."""
    with connected(around()) as api:
        request = flavor_pb2.GetFlavorRequest(id=named.flavor_id(api, flavor))
        show_one(as_json(api.call(_stub(api).GetFlavor, request).flavor), output)


@app.command("delete")
def delete(flavor: FlavorWord, output: OutputFlag = Output.TABLE) -> None:
    """Takes a size off the offer; instances made from it keep it."""
    with connected(around()) as api:
        request = flavor_pb2.DeleteFlavorRequest(
            request_id=new_request_id(), id=named.flavor_id(api, flavor)
        )
        show_one(as_json(api.call(_stub(api).DeleteFlavor, request).flavor), output)


def _fill(request: flavor_pb2.CreateFlavorRequest, amounts: dict[str, int]) -> None:
    for field, amount in amounts.items():
        try:
            setattr(request, field, amount)
        except ValueError as error:
            raise Invalid("INVALID_FIELD", f"{amount} is out of range", field=field) from error
