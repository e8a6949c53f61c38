"""The command `stead`: joins the nouns, and turns every end into an exit code."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from services.cli.edges import terminal
from services.cli.edges.commands import cloud
from services.cli.logic.refusal import Exit, Refusal, refusal_of
from services.domain.errors import CloudError

ABOUT = """stead gives an instance its place.

\b
Start a cloud here:   stead up --detach
Ask for a machine:    stead instance create NAME --flavor F --image I --wait
Look at it:           stead instance list;  stead instance console NAME --log
Let it go:            stead instance delete NAME --wait
End the cloud:        stead down

\b
Environment: STEAD_HOME (default ~/.local/share/stead), STEAD_ENDPOINT, STEAD_TOKEN_FILE.
Exit codes: 0 done; 1 the operation failed; 2 bad input; 3 not found;
4 not allowed; 5 wrong state or conflict; 6 no room or quota;
7 unreachable or timed out; 130 interrupted.
"""
NOUNS = {
    "instance": "Machines: ask for them, look at them, let them go.",
    "operation": "Accepted work: how far it is, why it failed.",
    "flavor": "Sizes in which instances come.",
    "image": "What instances start from.",
    "host": "Machines on which guests run.",
    "token": "Tokens: who may do what.",
}


def main() -> int:
    """Runs one command line; its exit code."""
    arguments = sys.argv[1:]
    in_json = terminal.wants_json(arguments)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except CloudError as error:
        return _refused(refusal_of(error), in_json=in_json)
    except Refusal as refusal:
        return _refused(refusal, in_json=in_json)
    except (KeyboardInterrupt, typer.Abort):
        print(file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has read enough.
        _let_go_of_output()
        return Exit.DONE
    except OSError as error:
        _let_go_of_output()
        return _refused(_of_the_system(error), in_json=in_json)
    return code


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(application(arguments))
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
    app.command("up")(cloud.up)
    app.command("down")(cloud.down)
    app.command("status")(cloud.status)
    for noun, about in NOUNS.items():
        named = noun in arguments
        app.add_typer(_LOADERS[noun]() if named else _listed(), name=noun, help=about)
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


def _listed() -> typer.Typer:
    app = typer.Typer(no_args_is_help=True)
    app.callback()(lambda: None)
    return app


def _instance() -> typer.Typer:
    from services.cli.edges.commands import instance

    return instance.app


def _operation() -> typer.Typer:
    from services.cli.edges.commands import operation

    return operation.app


def _flavor() -> typer.Typer:
    from services.cli.edges.commands import flavor

    return flavor.app


def _image() -> typer.Typer:
    from services.cli.edges.commands import image

    return image.app


def _host() -> typer.Typer:
    from services.cli.edges.commands import host

    return host.app


def _token() -> typer.Typer:
    from services.cli.edges.commands import token

    return token.app


_LOADERS: dict[str, Callable[[], typer.Typer]] = {
    "instance": _instance,
    "operation": _operation,
    "flavor": _flavor,
    "image": _image,
    "host": _host,
    "token": _token,
}

if __name__ == "__main__":
    sys.exit(main())
