"""`stead host`: list, show, enable, disable, fence, remove, watch; audits are audit.py's."""

from typing import Annotated

import typer
from stead.v1 import host_pb2, host_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import audit, completing
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import (
    DryRunFlag,
    FilterFlag,
    OrderFlag,
    OutputFlag,
    ResumeFlag,
    around,
    group,
)
from services.cli.edges.commands.watching import SNAPSHOT_DONE, events, show_event
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, say, show_many, show_one
from services.cli.logic.conditions import both, condition

app = group("Machines on which guests run. Only for cloud admins.")
HostWord = Annotated[
    str, typer.Argument(metavar="HOST", help="Its id.", autocompletion=completing.hosts)
]


def _stub(api: Api) -> host_pb2_grpc.HostServiceStub:
    return host_pb2_grpc.HostServiceStub(api.channel)


@app.command("list", epilog=taught("host list"))
def list_all(
    conditions: FilterFlag = "", order_by: OrderFlag = "", output: OutputFlag = Output.TABLE
) -> None:
    """Lists hosts with what is used of what may be used.

    Conditions name id, state or enabled.
    """
    with connected(around()) as api:
        request = host_pb2.ListHostsRequest(filter=conditions, order_by=order_by)
        rows = named.all_as_json(api, _stub(api).ListHosts, request, "hosts")
    show_many("host", rows, output)


@app.command("show")
def show(host: HostWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one host with its capacity and use.

    And what its driver can do, and why that one was chosen.
    """
    with connected(around()) as api:
        answer = api.call(_stub(api).GetHost, host_pb2.GetHostRequest(id=host))
    show_one(as_json(answer.host), output)


@app.command("enable")
def enable(host: HostWord, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE) -> None:
    """Lets instances be placed on a host again."""
    with connected(around()) as api:
        request = host_pb2.EnableHostRequest(id=host)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).EnableHost, request, what="", manner=manner), output)


@app.command("disable", epilog=taught("host disable"))
def disable(
    host: HostWord,
    reason: Annotated[str, typer.Option(metavar="WORDS", help="Why, for whoever wonders later.")],
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Keeps new instances off a host.

    Those that are there stay and run on.
    """
    with connected(around()) as api:
        request = host_pb2.DisableHostRequest(id=host, reason=reason)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).DisableHost, request, what="", manner=manner), output)


@app.command("fence", epilog=taught("host fence"))
def fence(
    host: HostWord,
    reason: Annotated[str, typer.Option(metavar="WORDS", help="How you know that it is dead.")],
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Vouches that a silent host and its guests run no more.

    Make sure first: power it off. Its instances may then be evacuated (stead instance evacuate).
    Refused while the host is UP. Its next start ends the fence.
    """
    with connected(around()) as api:
        request = host_pb2.FenceHostRequest(id=host, reason=reason)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).FenceHost, request, what="", manner=manner), output)


@app.command("remove", epilog=taught("host remove"))
def remove(host: HostWord, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE) -> None:
    """Forgets a silent host that no instance lives on.

    What is left there of deleted or evacuated instances is forgotten, too. Should it come back it
    is a new host, and guests that it still has are unknown; none of them is touched.
    """
    with connected(around()) as api:
        request = host_pb2.RemoveHostRequest(id=host)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).RemoveHost, request, what="", manner=manner), output)


app.command("audit", epilog=taught("host audit"))(audit.audit_host)
app.command("discard-guest", epilog=taught("host discard-guest"))(audit.discard_guest)


@app.command("watch", epilog=taught("host watch"))
def watch(
    host: Annotated[
        str,
        typer.Argument(
            metavar="HOST", help="Its id; all if left out.", autocompletion=completing.hosts
        ),
    ] = "",
    conditions: FilterFlag = "",
    resume_token: ResumeFlag = "",
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shows what is there, then every change.

    Also of what is used, until interrupted. A lost connection is opened again and nothing is left
    out. With --output json each event is one object on a line.
    """
    about = condition("id", host) if host else ""
    with connected(around()) as api:
        request = host_pb2.WatchHostsRequest(
            filter=both(about, conditions), resume_token=resume_token
        )
        for event in events(api, _stub(api).WatchHosts, request, output=output):
            show_event("host", event, output)
            mark = event.WhichOneof("event") == SNAPSHOT_DONE
            if mark and host and not event.snapshot_done.count and output is Output.TABLE:
                say(f'there is no host "{host}" yet; waiting for it')
