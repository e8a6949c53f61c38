"""Differences that an audit found, in words for people. Takes their JSON form."""

from collections.abc import Mapping
from typing import Any

from services.cli.logic.words import clean, counted, word

Row = Mapping[str, Any]

_IDS = (
    ("host", "host_id"),
    ("instance", "instance_id"),
    ("operation", "operation_id"),
    ("project", "project_id"),
    ("epoch", "epoch"),
)
_NOUNS = ("host", "guest", "instance", "claim", "operation", "project")


def block(difference: Row) -> str:
    """What disagrees and about what, then what was found, its cause and its mend, a line each."""
    ids = [
        f"{noun} {clean(str(difference[key]))}"
        for noun, key in _IDS
        if difference.get(key) not in ("", "0", 0, None)
    ]
    lines = [f"{word(str(difference['kind']))}  {', '.join(ids)}"]
    lines += [
        f"  {name:<6} {clean(str(difference[name]))}"
        for name in ("found", "cause", "mend")
        if difference.get(name)
    ]
    return "\n".join(lines)


def summary(done: Row) -> str:
    """How much was compared, and how much of it differs."""
    compared = ", ".join(
        counted(int(done[f"{noun}s"]), noun) for noun in _NOUNS if f"{noun}s" in done
    )
    count = int(done.get("differences", 0))
    told = counted(count, "difference") if count else "no difference"
    return f"{told}; compared: {compared}"
