"""`stead keypair`: create, list, show, delete."""

from pathlib import Path
from typing import Annotated

import typer
from stead.v1 import key_pair_pb2, key_pair_pb2_grpc

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
from services.cli.edges.files import bytes_of
from services.cli.edges.terminal import Output, show_many, show_one
from services.cli.logic.public_keys import only_key_in

app = group("Public keys for the logins of instances. The private halves never leave you.")
KeyPairWord = Annotated[
    str,
    typer.Argument(metavar="KEYPAIR", help="Name or id.", autocompletion=completing.key_pairs),
]


def _stub(api: Api) -> key_pair_pb2_grpc.KeyPairServiceStub:
    return key_pair_pb2_grpc.KeyPairServiceStub(api.channel)


@app.command("create", epilog=taught("keypair create"))
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name, unique among the project's key pairs.")
    ],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The .pub file; - reads standard input."),
    ],
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Takes in a public key, for `stead instance create --key NAME`."""
    public_key = only_key_in(bytes_of(file), field="FILE")
    with connected(around()) as api:
        request = key_pair_pb2.CreateKeyPairRequest(name=name, public_key=public_key)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).CreateKeyPair, request, what="", manner=manner), output)


@app.command("list")
def list_all(
    conditions: FilterFlag = "", order_by: OrderFlag = "", output: OutputFlag = Output.TABLE
) -> None:
    """Lists the key pairs of the project.

    Conditions name id or name.
    """
    with connected(around()) as api:
        request = key_pair_pb2.ListKeyPairsRequest(filter=conditions, order_by=order_by)
        rows = named.all_as_json(api, _stub(api).ListKeyPairs, request, "key_pairs")
    show_many("key pair", rows, output)


@app.command("show")
def show(key_pair: KeyPairWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one key pair."""
    with connected(around()) as api:
        request = key_pair_pb2.GetKeyPairRequest(id=named.key_pair_id(api, key_pair))
        show_one(as_json(api.call(_stub(api).GetKeyPair, request).key_pair), output)


@app.command("delete")
def delete(
    key_pair: KeyPairWord, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE
) -> None:
    """Forgets a key pair; instances made with it keep the key."""
    with connected(around()) as api:
        request = key_pair_pb2.DeleteKeyPairRequest(id=named.key_pair_id(api, key_pair))
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).DeleteKeyPair, request, what="", manner=manner), output)
