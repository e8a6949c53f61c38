"""Which columns the table of each noun has. Takes the JSON form of resources."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.cli.logic.words import word

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A title and what stands under it. On a narrow terminal the highest `rank` goes first, 0
    never.
    """

    title: str
    show: Callable[[Row], str]
    rank: int = 0


def _value(key: str) -> Callable[[Row], str]:
    return lambda row: word(str(row.get(key, "")))


def _moment(key: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(key, ""))[:19].replace("T", " ")


def _size(row: Row) -> str:
    return f"{row.get('vcpus')} vCPU, {row.get('memory_mib')} MiB, {row.get('disk_gib')} GiB"


def _share(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row.get('used', {}).get(key, 0)}/{row.get('target', {}).get(key, 0)}"


def _host_state(row: Row) -> str:
    return word(str(row.get("state", ""))) + ("" if row.get("enabled", True) else ", disabled")


def _why(row: Row) -> str:
    return str((row.get("error") or {}).get("reason", ""))


COLUMNS: dict[str, tuple[Column, ...]] = {
    "instance": (
        Column("ID", _value("id"), 6),
        Column("NAME", _value("name")),
        Column("STATE", _value("state")),
        Column("TASK", _value("task"), 1),
        Column("POWER", _value("power"), 2),
        Column("HOST", _value("host_id"), 3),
        Column("SIZE", _size, 5),
        Column("CREATED", _moment("create_time"), 4),
    ),
    "operation": (
        Column("ID", _value("id")),
        Column("ACTION", _value("action"), 1),
        Column("STATE", _value("state")),
        Column("PHASE", _value("phase"), 4),
        Column("RESOURCE", _value("resource_id"), 5),
        Column("CREATED", _moment("create_time"), 2),
        Column("WHY", _why, 3),
    ),
    "flavor": (
        Column("ID", _value("id"), 1),
        Column("NAME", _value("name")),
        Column("VCPUS", _value("vcpus")),
        Column("MEMORY MIB", _value("memory_mib")),
        Column("DISK GIB", _value("disk_gib")),
    ),
    "image": (
        Column("ID", _value("id"), 4),
        Column("NAME", _value("name")),
        Column("KIND", _value("kind"), 1),
        Column("ARCHITECTURE", _value("architecture"), 3),
        Column("STATE", _value("state")),
        Column("VISIBILITY", _value("visibility"), 2),
        Column("BYTES", _value("size_bytes"), 1),
    ),
    "host": (
        Column("ID", _value("id")),
        Column("STATE", _host_state),
        Column("DRIVER", lambda row: str(row.get("capabilities", {}).get("driver", "")), 2),
        Column("VCPUS", _share("vcpus"), 1),
        Column("MEMORY MIB", _share("memory_mib"), 1),
        Column("DISK GIB", _share("disk_gib"), 1),
        Column("CLAIMS", _value("claims"), 3),
    ),
    "unknown guest": (
        Column("HOST", _value("host_id"), 1),
        Column("INSTANCE", _value("instance_id")),
        Column("EPOCH", _value("epoch")),
        Column("POWER", _value("power"), 2),
        Column("WHY", _value("kind"), 3),
        Column("SINCE", _moment("first_reported_time"), 4),
    ),
    "key pair": (
        Column("ID", _value("id"), 3),
        Column("NAME", _value("name")),
        Column("ALGORITHM", _value("algorithm"), 1),
        Column("FINGERPRINT", _value("fingerprint")),
        Column("CREATED", _moment("create_time"), 2),
    ),
    "project": (
        Column("ID", _value("id")),
        Column("NAME", _value("display_name"), 1),
        Column("CREATED", _moment("create_time"), 2),
    ),
    "amount": (
        Column("RESOURCE", _value("resource")),
        Column("USED", _value("used")),
        Column("LIMIT", _value("limit")),
        Column("LEFT", _value("left")),
    ),
    "service": (
        Column("NAME", _value("name")),
        Column("REPLICA", _value("replica")),
        Column("PID", _value("pid")),
        Column("STATE", _value("state")),
        Column("RESTARTS", _value("restarts"), 1),
        Column("ENDPOINT", _value("endpoint")),
        Column("ADMIN", _value("admin_endpoint"), 2),
    ),
}
