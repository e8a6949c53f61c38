"""What quotas count, as people write and read it. Takes the JSON form of a quota."""

from collections.abc import Mapping
from typing import Any

from services.domain.errors import Invalid

RESOURCES = ("instances", "vcpus", "memory_mib", "disk_gib")
NO_LIMIT = -1
NONE_WORD = "none"
AMOUNT_MAX = 2**63 - 1


def limit_of(text: str, *, flag: str) -> int:
    """The limit that a person wrote: a number, or `none`, which is -1. Raises Invalid."""
    if text.lower() == NONE_WORD:
        return NO_LIMIT
    if not (text.isascii() and text.isdigit()) or int(text) > AMOUNT_MAX:
        raise Invalid("INVALID_FIELD", f'"{text}" is no number and not "none"', field=flag)
    return int(text)


def rows_of(quota: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row per resource: used, limit and what is left."""
    limits, used = quota.get("limits") or {}, quota.get("used") or {}
    return [
        _row(resource, int(used.get(resource, 0)), int(limits.get(resource, NO_LIMIT)))
        for resource in RESOURCES
    ]


def _row(resource: str, used: int, limit: int) -> dict[str, str]:
    free = NONE_WORD if limit == NO_LIMIT else str(limit)
    left = "any" if limit == NO_LIMIT else str(max(0, limit - used))
    return {"resource": resource, "used": str(used), "limit": free, "left": left}
