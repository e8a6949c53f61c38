"""One command line: joins the nouns, and turns every end into an exit code."""

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from services.cli.edges import terminal
from services.cli.edges.commands import cloud
from services.cli.edges.commands.completion import completion, words_so_far
from services.cli.edges.commands.examples import taught
from services.cli.logic.refusal import Exit, Refusal, refusal_of
from services.domain.errors import CloudError

ABOUT = """stead gives an instance its place.

\b
Start a cloud here:   stead up --detach
Ask for a machine:    stead instance create NAME --flavor F --image I --wait
Look at it:           stead instance list;  stead instance console NAME
Follow what happens:  stead instance watch
Let it go:            stead instance delete NAME --wait
End the cloud:        stead down

\b
Things are called by name or id. --output json is for programs; --dry-run changes nothing;
Tab completes after: eval "$(stead completion bash)"

\b
Environment: STEAD_HOME (default ~/.local/share/stead), STEAD_TOKEN_FILE,
STEAD_ENDPOINT (HOST:PORT; several, joined by commas, for replicas).
Exit codes: 0 done; 1 the operation failed; 2 bad input; 3 not found;
4 not allowed; 5 wrong state or conflict; 6 no room or quota;
7 unreachable or timed out; 130 interrupted.
"""
NOUNS = {
    "instance": "Machines: ask for them, look at them, switch and delete them.",
    "operation": "Accepted work: how far it is, why it failed.",
    "flavor": "Sizes in which instances come.",
    "image": "What instances start from.",
    "keypair": "Public keys for the logins of instances.",
    "project": "Owners of things.",
    "quota": "How much a project may have.",
    "host": "Machines on which guests run.",
    "token": "Tokens: who may do what.",
}


def run(arguments: Sequence[str]) -> int:
    """Its exit code. An interrupt is the caller's."""
    in_json = terminal.wants_json(arguments)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except CloudError as error:
        return _refused(refusal_of(error), in_json=in_json)
    except Refusal as refusal:
        return _refused(refusal, in_json=in_json)
    except typer.Abort as abort:
        raise KeyboardInterrupt from abort
    except BrokenPipeError:
        # Whoever read has read enough.
        _let_go_of_output()
        return Exit.DONE
    except OSError as error:
        _let_go_of_output()
        return _refused(_of_the_system(error), in_json=in_json)
    return code


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(application(words_so_far() or arguments))
    try:
        ended = command.main(list(arguments), prog_name="stead", standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        # typer ends by itself, with 1, when nobody reads any more.
        cause = stop.__context__
        if isinstance(cause, OSError) and cause.errno == errno.EPIPE:
            raise BrokenPipeError from cause
        raise
    except _usage_errors() as wrong:
        if type(wrong).__name__ == "NoArgsIsHelpError":
            print(wrong, file=sys.stderr)
            return Exit.INVALID
        raise _as_refusal(wrong) from wrong
    return ended if isinstance(ended, int) else Exit.DONE


def _usage_errors() -> type[Exception]:
    # typer brings its own click, whose names it does not offer as its own.
    return next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")


def _as_refusal(wrong: Exception) -> Refusal:
    message = getattr(wrong, "format_message", lambda: str(wrong))().rstrip(".")
    path = getattr(getattr(wrong, "ctx", None), "command_path", "stead")
    said = message.replace("Value error, ", "").replace("Input should", "it should")
    return Refusal("INVALID_ARGUMENT", "INVALID_FIELD", f"{said}. See `{path} --help`.")


def _of_the_system(error: OSError) -> Refusal:
    words = f"{error.filename or 'the system'}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refusal("PERMISSION_DENIED", "SYSTEM_REFUSED", words)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal("RESOURCE_EXHAUSTED", "STORAGE_FULL", words)
    return Refusal("INTERNAL", "SYSTEM_REFUSED", words)


def _let_go_of_output() -> None:
    # What is still buffered must not fail once more at the end.
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _refused(refusal: Refusal, *, in_json: bool) -> int:
    terminal.show_refusal(refusal, in_json=in_json)
    return refusal.exit_code


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command tree. A noun that the command line does not name is only listed: its libraries
    stay unread.
    """
    app = typer.Typer(
        help=ABOUT,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_root)
    app.command("up", epilog=taught("up"))(cloud.up)
    app.command("down")(cloud.down)
    app.command("status")(cloud.status)
    app.command("completion", epilog=taught("completion"))(completion)
    app.command("audit", epilog=taught("audit"))(_audit(arguments))
    for noun, about in NOUNS.items():
        named = noun in arguments
        app.add_typer(_load(noun) if named else _listed(), name=noun, help=about)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"stead {cloud.version()}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the release and end.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    del version


def _audit(arguments: Sequence[str]) -> Callable[..., None]:
    if "audit" in arguments:
        found: Callable[..., None] = importlib.import_module(
            "services.cli.edges.commands.audit"
        ).audit
        return found

    def audit() -> None:
        """Shows every difference in the cloud, and its mend."""

    return audit


def _listed() -> typer.Typer:
    app = typer.Typer(no_args_is_help=True)
    app.callback()(lambda: None)
    return app


def _load(noun: str) -> typer.Typer:
    found = importlib.import_module(f"services.cli.edges.commands.{noun}").app
    assert isinstance(found, typer.Typer)
    return found
