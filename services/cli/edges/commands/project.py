"""`stead project`: create, list, show, update, delete."""

from typing import Annotated

import typer
from stead.v1 import project_pb2, project_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands import completing
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import DryRunFlag, OutputFlag, around, group
from services.cli.edges.commands.wishes import Manner, carry_out
from services.cli.edges.terminal import Output, show_many, show_one

app = group("Owners of instances, images and key pairs. Cloud admins make them.")
ProjectWord = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Its id.", autocompletion=completing.projects)
]


def _stub(api: Api) -> project_pb2_grpc.ProjectServiceStub:
    return project_pb2_grpc.ProjectServiceStub(api.channel)


@app.command("create", epilog=taught("project create"))
def create(
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Its id, as tokens name it; never changes.")
    ],
    name: Annotated[str, typer.Option(metavar="WORDS", help="What people call it.")] = "",
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Makes a project known.

    `stead token create --project PROJECT` lets people into it.
    """
    with connected(around()) as api:
        request = project_pb2.CreateProjectRequest(id=project, display_name=name)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).CreateProject, request, what="", manner=manner), output)


@app.command("list")
def list_all(output: OutputFlag = Output.TABLE) -> None:
    """Lists projects: to cloud admins all, to others their own."""
    with connected(around()) as api:
        request = project_pb2.ListProjectsRequest()
        rows = named.all_as_json(api, _stub(api).ListProjects, request, "projects")
    show_many("project", rows, output)


@app.command("show")
def show(
    project: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT",
            help="Its id; your own if left out.",
            autocompletion=completing.projects,
        ),
    ] = "",
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shows one project."""
    with connected(around()) as api:
        request = project_pb2.GetProjectRequest(id=project)
        show_one(as_json(api.call(_stub(api).GetProject, request).project), output)


@app.command("update")
def update(
    project: ProjectWord,
    name: Annotated[str, typer.Option(metavar="WORDS", help="What people shall call it.")],
    etag: Annotated[
        str, typer.Option(metavar="ETAG", help="Only if it is still this version of it.")
    ] = "",
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Changes what people call a project."""
    with connected(around()) as api:
        request = project_pb2.UpdateProjectRequest(id=project, display_name=name, etag=etag)
        request.update_mask.paths.append("display_name")
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).UpdateProject, request, what="", manner=manner), output)


@app.command("delete")
def delete(
    project: ProjectWord, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE
) -> None:
    """Forgets a project that has no instances."""
    with connected(around()) as api:
        request = project_pb2.DeleteProjectRequest(id=project)
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).DeleteProject, request, what="", manner=manner), output)
