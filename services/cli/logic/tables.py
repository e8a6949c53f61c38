"""Tables for people: which columns each noun has, and how values read. Takes the JSON form of
resources.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]

# CSI sequences, OSC strings, and the other two-byte ones. Source: ECMA-48, 5.4 and 8.3.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])"
)
_PREFIXES = (
    "INSTANCE_STATE_",
    "INSTANCE_TASK_",
    "INSTANCE_POWER_",
    "INSTANCE_ACTION_",
    "OPERATION_ACTION_",
    "OPERATION_STATE_",
    "OPERATION_PHASE_",
    "IMAGE_KIND_",
    "IMAGE_STATE_",
    "IMAGE_VISIBILITY_",
    "ARCHITECTURE_",
    "HOST_STATE_",
    "HYPERVISOR_KIND_",
)


def word(name: str) -> str:
    """ACTIVE for INSTANCE_STATE_ACTIVE."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def clean(text: str) -> str:
    """The text without what could move a terminal's cursor: shown, never obeyed."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clean_lines(text: str) -> str:
    """The same for many lines: line ends and tabs stay, carriage returns go."""
    kept = text.replace("\r", "")
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in kept
    )


def without_control(text: str) -> str:
    """A console's words without what its guest meant for a terminal: colours, cursors, titles."""
    return clean_lines(_SEQUENCE.sub("", text))


def _value(key: str) -> Callable[[Row], str]:
    return lambda row: word(str(row.get(key, "")))


def _moment(key: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(key, ""))[:19].replace("T", " ")


def _size(row: Row) -> str:
    return f"{row.get('vcpus')} vCPU, {row.get('memory_mib')} MiB, {row.get('disk_gib')} GiB"


def _share(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row.get('used', {}).get(key, 0)}/{row.get('target', {}).get(key, 0)}"


COLUMNS: dict[str, tuple[Column, ...]] = {
    "instance": (
        ("ID", _value("id")),
        ("NAME", _value("name")),
        ("STATE", _value("state")),
        ("TASK", _value("task")),
        ("POWER", _value("power")),
        ("HOST", _value("host_id")),
        ("SIZE", _size),
        ("CREATED", _moment("create_time")),
    ),
    "operation": (
        ("ID", _value("id")),
        ("ACTION", _value("action")),
        ("STATE", _value("state")),
        ("PHASE", _value("phase")),
        ("RESOURCE", _value("resource_id")),
        ("CREATED", _moment("create_time")),
        ("WHY", lambda row: str((row.get("error") or {}).get("reason", ""))),
    ),
    "flavor": (
        ("ID", _value("id")),
        ("NAME", _value("name")),
        ("VCPUS", _value("vcpus")),
        ("MEMORY MIB", _value("memory_mib")),
        ("DISK GIB", _value("disk_gib")),
    ),
    "image": (
        ("ID", _value("id")),
        ("NAME", _value("name")),
        ("KIND", _value("kind")),
        ("ARCHITECTURE", _value("architecture")),
        ("STATE", _value("state")),
        ("VISIBILITY", _value("visibility")),
        ("BYTES", _value("size_bytes")),
    ),
    "host": (
        ("ID", _value("id")),
        ("STATE", _value("state")),
        ("DRIVER", lambda row: str(row.get("capabilities", {}).get("driver", ""))),
        ("VCPUS", _share("vcpus")),
        ("MEMORY MIB", _share("memory_mib")),
        ("DISK GIB", _share("disk_gib")),
        ("CLAIMS", _value("claims")),
    ),
    "service": (
        ("NAME", _value("name")),
        ("REPLICA", _value("replica")),
        ("PID", _value("pid")),
        ("STATE", _value("state")),
        ("RESTARTS", _value("restarts")),
        ("ENDPOINT", _value("endpoint")),
    ),
}


def counted(number: int, noun: str) -> str:
    """`1 guest`, `2 guests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(noun: str, rows: Sequence[Row]) -> str:
    """The rows under their titles, columns two blanks apart; a sentence if there are none."""
    if not rows:
        return f"no {noun}s"
    columns = COLUMNS[noun]
    cells = [[title for title, _ in columns]]
    cells += [[clean(show(row)) or "-" for _, show in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def card(row: Row) -> str:
    """One resource, a line per field; nested fields as `outer.inner`, empty ones left out."""
    lines = list(_flat("", row))
    width = max((len(key) for key, _ in lines), default=0)
    return "\n".join(f"{key.ljust(width)}  {clean(value)}" for key, value in lines)


def _flat(prefix: str, row: Row) -> Sequence[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            lines += _flat(f"{prefix}{key}.", value)
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value):
                lines += _flat(f"{prefix}{key}.{number}.", entry)
        elif isinstance(value, list):
            lines.append((prefix + key, ", ".join(word(str(entry)) for entry in value)))
        elif value not in ("", None):
            shown = str(value).lower() if isinstance(value, bool) else word(str(value))
            lines.append((prefix + key, shown))
    return [(key, value) for key, value in lines if value]
