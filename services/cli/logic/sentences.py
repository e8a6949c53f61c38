"""One line of a watch: what a version of a thing says. Takes the JSON form of resources."""

from collections.abc import Callable, Mapping
from typing import Any

from services.cli.logic.words import clean, word

Row = Mapping[str, Any]


def line_of(noun: str, row: Row, *, revision: int, left: bool = False) -> str:
    """`revision  name  version=… …`; `left` says that it does not match the filter any more."""
    shown = f"{revision:>6}  {_SAYINGS[noun](row)}"
    return clean(f"{shown}  (no longer matches)" if left else shown)


def _instance(row: Row) -> str:
    states = " ".join(f"{key}={word(row[key])}" for key in ("state", "task", "power"))
    host = f" host={row['host_id']}" if row["host_id"] else ""
    return f"{row['name']}  version={row['version']} {states}{host}"


def _operation(row: Row) -> str:
    why = (row.get("error") or {}).get("reason", "")
    # Whose phases are over need no phase.
    running = row["state"] == "OPERATION_STATE_RUNNING"
    parts = [
        f"{row['id']}  version={row['version']}",
        word(row["action"]),
        word(row["phase"] if running else row["state"]),
        str(row.get("progress", "")) if running else why,
    ]
    return " ".join(part for part in parts if part)


def _host(row: Row) -> str:
    used, target = row.get("used") or {}, row.get("target") or {}
    shares = " ".join(
        f"{key}={used.get(key, 0)}/{target.get(key, 0)}"
        for key in ("vcpus", "memory_mib", "disk_gib")
    )
    state = word(row["state"]) + ("" if row["enabled"] else f", disabled: {row['disabled_reason']}")
    return f"{row['id']}  version={row['version']} {state} {shares} claims={row['claims']}"


_SAYINGS: dict[str, Callable[[Row], str]] = {
    "instance": _instance,
    "operation": _operation,
    "host": _host,
}
