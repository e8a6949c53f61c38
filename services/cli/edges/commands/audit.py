"""`stead audit`, and its part under `stead host`: audit, discard-guest."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from stead.v1 import audit_pb2, audit_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import completing
from services.cli.edges.commands.flags import DryRunFlag, OutputFlag, around
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, say, show_many, show_one, show_text
from services.cli.logic.differences import block, summary

HostWord = Annotated[
    str, typer.Argument(metavar="HOST", help="Its id.", autocompletion=completing.hosts)
]
Row = dict[str, Any]


def _stub(api: Api) -> audit_pb2_grpc.AuditServiceStub:
    return audit_pb2_grpc.AuditServiceStub(api.channel)


def audit(output: OutputFlag = Output.TABLE) -> None:
    """Shows every difference in the cloud, and its mend.

    Between instances, claims, the ledger, operations, quotas and what hosts have. In a healthy
    cloud there is none, also while it is at work. Changes nothing.
    Exit code 1 when differences were found. Only for cloud admins.
    """
    with connected(around()) as api:
        found = _told(_events(api, ""), output)
        if output is Output.JSON:
            show_many("difference", found, output)
    raise typer.Exit(1 if found else 0)


def audit_host(host: HostWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows guests on a host that nobody claims, and what differs.

    Such guests are left exactly as they are. With --output json both are arrays of one object:
    unknown_guests and differences.
    Exit code 1 when a guest or a difference was found. Only for cloud admins.
    """
    with connected(around()) as api:
        request = audit_pb2.ListUnknownGuestsRequest(host_id=host)
        guests = named.all_as_json(api, _stub(api).ListUnknownGuests, request, "guests")
        if output is Output.TABLE:
            show_many("unknown guest", guests, output)
        differences = _told(_events(api, host), output)
        if output is Output.JSON:
            show_one({"unknown_guests": guests, "differences": differences}, output)
    raise typer.Exit(1 if guests or differences else 0)


def discard_guest(
    host: HostWord,
    instance: Annotated[
        str, typer.Argument(metavar="INSTANCE_ID", help="The instance id that stands in the guest.")
    ],
    epoch: Annotated[int, typer.Argument(metavar="EPOCH", help="The epoch that stands in it.")],
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Lets a guest go that nobody claims.

    Its host erases it, disk and all. There is no way back.
    `stead host audit` shows which there are.
    """
    with connected(around()) as api:
        request = audit_pb2.DiscardGuestRequest(host_id=host, instance_id=instance, epoch=epoch)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).DiscardGuest, request, what="", manner=manner), output)


def _events(api: Api, host: str) -> Iterator[Any]:
    return api.stream(_stub(api).Audit, audit_pb2.AuditRequest(host_id=host))


def _told(events: Iterator[Any], output: Output) -> list[Row]:
    """All differences, shown to people as they come."""
    found: list[Row] = []
    for event in events:
        if event.HasField("done"):
            if output is Output.TABLE:
                say(summary(as_json(event.done)))
            continue
        found.append(as_json(event.difference))
        if output is Output.TABLE:
            show_text(block(found[-1]) + "\n")
    return found
