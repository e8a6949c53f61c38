"""`stead completion`: what a shell must be told, and the answers to its questions."""

import os
import shlex
from enum import StrEnum
from typing import Annotated

import typer

VARIABLE = "_STEAD_COMPLETE"


class Shell(StrEnum):
    """Whose language the words are in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Prints what a shell needs for Tab to complete.

    Commands, flags and the names of your things. The names come from the cloud; where it does not
    answer there are none.
    """
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="stead", complete_var=VARIABLE, shell=shell.value))


def words_so_far() -> list[str]:
    """The command line that a shell asks about, without its first word; empty if none asks."""
    if not os.environ.get(VARIABLE):
        return []
    # typer knows how to answer once it was told of the shells.
    from typer._completion_classes import completion_init

    completion_init()
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    try:
        return shlex.split(line)[1:]
    except ValueError:
        # A quote that is still open.
        return line.split()[1:]
