r"""The filter of lists: `FIELD = "VALUE"`, any number joined by AND.

Owns the grammar and which fields each noun has. Inside quotes `\"` stands for a quote and `\\`
for a backslash.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.domain.instance import State
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationState

CONDITIONS_MAX = 8

_CONDITION = re.compile(r'\s*([a-z_]+)\s*=\s*"((?:[^"\\\x00-\x1f]|\\["\\])*)"\s*')
_AND = re.compile(r"AND(?=\s)")
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass(frozen=True, slots=True)
class BadFilter:
    """Why a filter cannot be read."""

    why: str


@dataclass(frozen=True, slots=True)
class _Enumerated:
    prefix: str
    values: type[IntEnum]


FIELDS: Mapping[ResourceKind, Mapping[str, _Enumerated | None]] = {
    ResourceKind.INSTANCE: {
        "name": None,
        "state": _Enumerated("INSTANCE_STATE_", State),
        "flavor_id": None,
        "image_id": None,
    },
    ResourceKind.OPERATION: {
        "state": _Enumerated("OPERATION_STATE_", OperationState),
        "resource_id": None,
    },
    ResourceKind.FLAVOR: {"name": None},
    ResourceKind.IMAGE: {"name": None, "digest": None},
    ResourceKind.HOST: {},
}


def parse(text: str, kind: ResourceKind) -> dict[str, str] | BadFilter:
    """Conditions by field; the value of an enum is its number in decimals."""
    conditions: dict[str, str] = {}
    if not text.strip():
        return conditions
    position = 0
    while True:
        match = _CONDITION.match(text, position)
        if match is None:
            return BadFilter(f'expected FIELD = "VALUE" at character {position + 1}')
        field, value = match.group(1), _ESCAPED.sub(r"\1", match.group(2))
        read = _read(field, value, kind)
        if isinstance(read, BadFilter):
            return read
        if field in conditions:
            return BadFilter(f"{field} stands there twice")
        if len(conditions) == CONDITIONS_MAX:
            return BadFilter(f"more than {CONDITIONS_MAX} conditions")
        conditions[field] = read
        position = match.end()
        if position == len(text):
            return conditions
        joined = _AND.match(text, position)
        if joined is None:
            return BadFilter(f"expected AND at character {position + 1}")
        position = joined.end()


def _read(field: str, value: str, kind: ResourceKind) -> str | BadFilter:
    fields = FIELDS[kind]
    if field not in fields:
        known = ", ".join(fields) or "none"
        return BadFilter(f"there is no field {field}; the fields are: {known}")
    enumerated = fields[field]
    if enumerated is None:
        return value
    name = value.removeprefix(enumerated.prefix)
    if name not in enumerated.values.__members__:
        known = ", ".join(enumerated.values.__members__)
        return BadFilter(f"{field} cannot be that; it is one of: {known}")
    return str(enumerated.values[name].value)
