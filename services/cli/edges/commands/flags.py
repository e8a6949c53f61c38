"""Flags and arguments that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

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
AllProjectsFlag = Annotated[
    bool, typer.Option("--all-projects", help="Of every project; only for cloud admins.")
]
InstanceWord = Annotated[str, typer.Argument(metavar="INSTANCE", help="Name or id.")]
WAIT_S = 600.0


def around() -> Surroundings:
    """Home, endpoint and token of this call."""
    return surroundings(os.environ, folder=Path.cwd())


def group(help_text: str) -> typer.Typer:
    """One noun's commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
