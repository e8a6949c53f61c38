"""The terminal: tables and JSON on standard output, progress and refusals on standard error."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

from services.cli.logic import tables, words
from services.cli.logic.refusal import Refusal, as_json, as_text
from services.cli.logic.words import word


class Output(StrEnum):
    """For whom a command writes."""

    TABLE = "table"
    JSON = "json"


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, also where it is wrong otherwise."""
    joined = f" {' '.join(arguments)} "
    asked = ("--output json", "--output=json", "-o json", "-ojson")
    return any(f" {words} " in joined for words in asked)


def show_one(row: Mapping[str, Any], output: Output) -> None:
    """One resource."""
    print(json.dumps(row, indent=2) if output is Output.JSON else tables.card(row))


def show_many(noun: str, rows: Sequence[Mapping[str, Any]], output: Output) -> None:
    """All of a list."""
    print(
        json.dumps(rows, indent=2)
        if output is Output.JSON
        else tables.table(noun, rows, width=_width_of_output())
    )


def show_line(row: Mapping[str, Any]) -> None:
    """One object on one line, at once."""
    print(json.dumps(row), flush=True)


def show_refusal(refusal: Refusal, *, in_json: bool) -> None:
    """Why it did not happen."""
    said = json.dumps(as_json(refusal)) if in_json else words.clean_lines(as_text(refusal))
    print(said, file=sys.stderr)


def say(line: str) -> None:
    """A line of progress for people."""
    print(f"stead: {words.clean_lines(line)}", file=sys.stderr, flush=True)


def whisper(line: str) -> None:
    """A line of progress that only a person at a terminal gets."""
    if sys.stderr.isatty():
        say(line)


def end_line() -> None:
    """Leaves a live line."""
    if sys.stderr.isatty():
        print(file=sys.stderr, flush=True)


def show_text(text: str) -> None:
    """A guest's own words: as they are into a file or pipe, harmless on a terminal."""
    sys.stdout.write(words.without_control(text) if sys.stdout.isatty() else text)
    if text and not text.endswith("\n"):
        sys.stdout.write("\n")


def phase_teller(what: str, output: Output) -> Callable[[Mapping[str, Any], float], None]:
    """Shows an operation under way: one live line on a terminal, a line per phase elsewhere.

    Programs that asked for JSON have standard error for the refusal alone.
    """
    told: list[str] = []
    live = sys.stderr.isatty()

    def tell(operation: Mapping[str, Any], elapsed_s: float) -> None:
        running = operation["state"] == "OPERATION_STATE_RUNNING"
        phase = word(str(operation["phase" if running else "state"]))
        progress = words.clean(str(operation.get("progress", "")))
        line = f"{what}: {phase}" + (f", {progress}" if progress and running else "")
        if live:
            end = "" if running else "\n"
            # A line that wraps cannot be written over.
            kept = f"{line} {elapsed_s:.1f} s"[: _columns(sys.stderr) - 1]
            print(f"\r\x1b[K{kept}", end=end, file=sys.stderr, flush=True)
        elif output is Output.TABLE and told[-1:] != [line]:
            told.append(line)
            print(f"{line} ({elapsed_s:.1f} s)", file=sys.stderr, flush=True)

    return tell


def standing_line(instance: Mapping[str, Any], *, ended: bool) -> None:
    """Where an awaited instance stands: one live line on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        standing = f"{word(instance['state'])} {word(instance['task'])}"
        line = words.clean(f"{instance['name']}: {standing}")[: _columns(sys.stderr) - 1]
        print(f"\r\x1b[K{line}", end="\n" if ended else "", file=sys.stderr, flush=True)


def tally_teller(what: str, total: int) -> Callable[[int], None]:
    """Shows how many of many are done: one live line on a terminal, nothing elsewhere."""

    def tell(done: int) -> None:
        if sys.stderr.isatty():
            line = f"{what}: {done} of {total} done"[: _columns(sys.stderr) - 1]
            end = "\n" if done == total else ""
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)

    return tell


def _width_of_output() -> int | None:
    # Who reads from a pipe or a file gets all columns whole.
    return _columns(sys.stdout) if sys.stdout.isatty() else None


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80


def show_bytes(content: bytes) -> None:
    """What a guest wrote, byte for byte and at once: its console is this terminal."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
