"""Flags and arguments that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from services.cli.edges.commands import completing
from services.cli.edges.terminal import Output
from services.cli.logic.surroundings import Surroundings, surroundings

OutputFlag = Annotated[
    Output, typer.Option("--output", "-o", help="table for people, json for programs.")
]
WaitFlag = Annotated[bool, typer.Option("--wait", help="Wait until the work has ended.")]
TimeoutFlag = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0.1, help="With --wait: for how many seconds at most."
    ),
]
PatienceFlag = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long at most.")
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, change nothing, show what would be.")
]
AllProjectsFlag = Annotated[
    bool, typer.Option("--all-projects", help="Of every project; only for cloud admins.")
]
FilterFlag = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="CONDITIONS",
        help='FIELD = "VALUE", FIELD != "VALUE" or FIELD IN ("VALUE", …), joined by AND.',
    ),
]
OrderFlag = Annotated[
    str,
    typer.Option(
        "--order-by", metavar="FIELD", help="id, create_time or name; ` desc` turns it round."
    ),
]
ResumeFlag = Annotated[
    str,
    typer.Option(
        "--resume-token",
        metavar="TOKEN",
        help="Go on after an earlier watch: the resume_token of its last line.",
    ),
]
InstanceWord = Annotated[
    str,
    typer.Argument(metavar="INSTANCE", help="Name or id.", autocompletion=completing.instances),
]
WAIT_S = 600.0


def around() -> Surroundings:
    """Home, endpoint and token of this call."""
    return surroundings(os.environ, folder=Path.cwd())


def group(help_text: str) -> typer.Typer:
    """One noun's commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
