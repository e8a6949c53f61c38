"""`stead instance console`: the newest of what the guest wrote, or the console itself."""

import sys
from typing import Annotated, Any

import typer
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected
from services.cli.edges.commands.flags import InstanceWord, OutputFlag, around
from services.cli.edges.commands.watching import pace_of
from services.cli.edges.console import Console
from services.cli.edges.keyboard import Hearer, Keyboard, has_terminal
from services.cli.edges.terminal import Output, say, show_bytes, show_line, show_one, show_text
from services.cli.flows.talk import Heard, Opening, talk
from services.domain.errors import Invalid

LINGER_S = 2.0


def console(
    instance: InstanceWord,
    log: Annotated[
        bool, typer.Option("--log", help="Print the newest of what the guest wrote, and end.")
    ] = False,
    max_bytes: Annotated[
        int,
        typer.Option(min=1, max=1048576, metavar="N", help="With --log: how much from the end."),
    ] = 65536,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Read along, type nothing; many can at once.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take the keyboard from whoever has it.")
    ] = False,
    begin: Annotated[
        int | None,
        typer.Option(
            "--from", min=0, metavar="OFFSET", help="Begin at this byte of all that it wrote."
        ),
    ] = None,
    linger: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="At the end of piped input: leave after this silence."
        ),
    ] = LINGER_S,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Joins this terminal to the serial console. Ctrl-] leaves.

    A lost connection is opened again where it was cut off. Any number may read, one types: a second
    is refused unless it says --take-over.

    With input from a pipe all of it is typed, what the guest writes goes to standard output, and
    the command ends when the input has ended and the guest was silent for --linger seconds.
    """
    if read_only and take_over:
        raise Invalid("INVALID_FIELD", "who only reads takes no keyboard", field="--take-over")
    with connected(around()) as api:
        found = named.instance_id(api, instance)
        if log:
            _show_log(
                api, instance_pb2.GetConsoleOutputRequest(id=found, max_bytes=max_bytes), output
            )
            return
        line = Console(api, found)
        opening = Opening(begin, write=not read_only, take_over=take_over)
        keyboard = Keyboard(
            Hearer(line.type, line.leave, line.quiet_s), write=opening.write, linger_s=linger
        )
        _join(api, (line, opening, keyboard), instance, output)


def _join(
    api: Api, joined: tuple[Console, Opening, Keyboard], instance: str, output: Output
) -> None:
    line, opening, keyboard = joined
    terminal = has_terminal()
    told: list[bool] = []

    def show(heard: Heard) -> None:
        if terminal and not told:
            told.append(True)
            _tell(f"the console of {instance}; Ctrl-] leaves")
        if output is Output.JSON:
            show_line(_as_json(heard))
        else:
            show_bytes(heard.content)

    with keyboard.listening():
        talk(
            line.line,
            opening,
            show=show,
            has_left=line.has_left,
            pace=pace_of(api, tell=_tell if terminal else say),
        )
    if terminal:
        print(file=sys.stderr)
        say(f"left the console of {instance}")


def _as_json(heard: Heard) -> dict[str, Any]:
    answer = instance_pb2.OpenConsoleResponse()
    if heard.content:
        answer.output.content, answer.output.end_offset = heard.content, heard.end_offset
    else:
        answer.opened.offset = heard.end_offset
    return as_json(answer)


def _tell(words: str) -> None:
    # The terminal is raw: a line end alone would not bring the cursor back.
    print(f"\r\nstead: {words}\r", file=sys.stderr, flush=True)


def _show_log(api: Api, request: instance_pb2.GetConsoleOutputRequest, output: Output) -> None:
    stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
    answer = api.call(stub.GetConsoleOutput, request)
    if output is Output.JSON:
        show_one(as_json(answer), output)
    else:
        show_text(answer.output)
