"""`stead quota`: show, set."""

from typing import Annotated, Any

import typer
from stead.v1 import quota_pb2, quota_pb2_grpc

from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import completing
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import DryRunFlag, OutputFlag, around, group
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, show_many, show_one
from services.cli.logic.amounts import limit_of, rows_of
from services.domain.errors import Invalid

app = group("How much a project may have at once, and how much it has.")
ProjectWord = Annotated[
    str,
    typer.Argument(
        metavar="PROJECT",
        help="Its id; your own if left out.",
        autocompletion=completing.projects,
    ),
]
LimitFlag = Annotated[str | None, typer.Option(metavar="N", help="A number, or none.")]


def _stub(api: Api) -> quota_pb2_grpc.QuotaServiceStub:
    return quota_pb2_grpc.QuotaServiceStub(api.channel)


@app.command("show", epilog=taught("quota show"))
def show(project: ProjectWord = "", output: OutputFlag = Output.TABLE) -> None:
    """Shows limits, use and what is left; others' only to cloud admins."""
    with connected(around()) as api:
        request = quota_pb2.GetQuotaRequest(project_id=project)
        _show(as_json(api.call(_stub(api).GetQuota, request).quota), output)


@app.command("set", epilog=taught("quota set"))
def set_limits(
    project: ProjectWord = "",
    instances: LimitFlag = None,
    vcpus: LimitFlag = None,
    memory_mib: LimitFlag = None,
    disk_gib: LimitFlag = None,
    etag: Annotated[
        str, typer.Option(metavar="ETAG", help="Only if it is still this version of it.")
    ] = "",
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Sets limits of a project; those that are not named stay. Only for cloud admins.

    What a project has above a new limit stays, and nothing is added until it is below.
    """
    given = {
        "instances": instances,
        "vcpus": vcpus,
        "memory_mib": memory_mib,
        "disk_gib": disk_gib,
    }
    limits = {
        name: limit_of(text, flag=f"--{name.replace('_', '-')}")
        for name, text in given.items()
        if text is not None
    }
    if not limits:
        words = "say which limit: --instances, --vcpus, --memory-mib or --disk-gib"
        raise Invalid("INVALID_FIELD", words, field="--instances")
    with connected(around()) as api:
        request = quota_pb2.UpdateQuotaRequest(project_id=project or _own(api), etag=etag)
        for name, limit in limits.items():
            setattr(request.limits, name, limit)
        request.update_mask.paths.extend(limits)
        manner = Manner(output, dry_run)
        _show(carry_out(api, _stub(api).UpdateQuota, request, what="", manner=manner), output)


def _own(api: Api) -> str:
    answer = api.call(_stub(api).GetQuota, quota_pb2.GetQuotaRequest())
    return str(answer.quota.project_id)


def _show(quota: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        show_one(quota, output)
    else:
        print(f"project {quota['project_id']}")
        show_many("amount", rows_of(quota), output)
