r"""The filter of lists and watches: conditions joined by AND.

Each is `FIELD = "VALUE"`, `FIELD != "VALUE"` or `FIELD IN ("VALUE", "VALUE")`. Owns the grammar and
which fields each noun has. Inside quotes `\"` stands for a quote and `\\` for a backslash; a label
whose key is more than a word is written `labels."KEY"`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.domain.condition import LABEL_PREFIX, Condition
from services.domain.instance import Power, State, Task
from services.domain.kinds import Architecture, HostState, ImageKind, ResourceKind
from services.domain.operation import OperationAction, OperationState, Phase

CONDITIONS_MAX = 8
VALUES_MAX = 100

_QUOTED = r'"((?:[^"\\\x00-\x1f\x7f]|\\["\\])*)"'
_WORD = r"[^\s\"\\=!(),\x00-\x1f\x7f]+"
_FIELD = re.compile(rf"\s*(labels\.(?:{_QUOTED}|{_WORD})|[a-z_]+)\s*")
_OPERATOR = re.compile(r"(=|!=|IN(?=[\s(]))\s*")
_VALUE = re.compile(rf"{_QUOTED}\s*")
_OPEN, _COMMA, _CLOSE = re.compile(r"\(\s*"), re.compile(r",\s*"), re.compile(r"\)\s*")
_AND = re.compile(r"AND(?=\s)")
_ESCAPED = re.compile(r'\\(["\\])')
_TO_ESCAPE = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True)
class BadFilter:
    """Why a filter cannot be read."""

    why: str


class _Visibility(IntEnum):
    PRIVATE = 1
    PUBLIC = 2


@dataclass(frozen=True, slots=True)
class Field:
    """What values a field has: text, or words that stand for what rows hold. Ids are lower case."""

    words: Mapping[str, str] | None = None
    prefix: str = ""
    lower: bool = False


def _enumerated(prefix: str, values: type[IntEnum]) -> Field:
    return Field({member.name: str(member.value) for member in values}, prefix)


_TEXT, _ID = Field(), Field(lower=True)
_BOOL = Field({"true": "true", "false": "false"})

FIELDS: Mapping[ResourceKind, Mapping[str, Field]] = {
    ResourceKind.INSTANCE: {
        "id": _ID,
        "name": _TEXT,
        "state": _enumerated("INSTANCE_STATE_", State),
        "task": _enumerated("INSTANCE_TASK_", Task),
        "power": _enumerated("INSTANCE_POWER_", Power),
        "flavor_id": _ID,
        "image_id": _ID,
    },
    ResourceKind.OPERATION: {
        "id": _ID,
        "action": _enumerated("OPERATION_ACTION_", OperationAction),
        "state": _enumerated("OPERATION_STATE_", OperationState),
        "phase": _enumerated("OPERATION_PHASE_", Phase),
        "resource_id": _ID,
        "actor": _TEXT,
        "request_id": _TEXT,
    },
    ResourceKind.FLAVOR: {"id": _ID, "name": _TEXT},
    ResourceKind.IMAGE: {
        "id": _ID,
        "name": _TEXT,
        "digest": _ID,
        "kind": _enumerated("IMAGE_KIND_", ImageKind),
        "architecture": _enumerated("ARCHITECTURE_", Architecture),
        "visibility": _enumerated("IMAGE_VISIBILITY_", _Visibility),
    },
    ResourceKind.HOST: {
        "id": _ID,
        "state": _enumerated("HOST_STATE_", HostState),
        "enabled": _BOOL,
    },
    ResourceKind.PROJECT: {"id": _ID},
    ResourceKind.KEY_PAIR: {"id": _ID, "name": _TEXT},
}
FIELDS_OF_ADMINS: Mapping[ResourceKind, Mapping[str, Field]] = {
    ResourceKind.INSTANCE: {"project_id": _TEXT, "host_id": _ID},
    ResourceKind.OPERATION: {"project_id": _TEXT},
}


def parse(
    text: str, kind: ResourceKind, *, cloud_admin: bool = False
) -> tuple[Condition, ...] | BadFilter:
    """The conditions in their order; none for an empty text."""
    reading = _Reading(text)
    fields = dict(FIELDS[kind])
    if cloud_admin:
        fields |= FIELDS_OF_ADMINS.get(kind, {})
    conditions: list[Condition] = []
    try:
        while text.strip():
            if len(conditions) == CONDITIONS_MAX:
                return BadFilter(f"more than {CONDITIONS_MAX} conditions")
            conditions.append(_condition(reading, fields, kind))
            if reading.at_end():
                break
            reading.expect(_AND, "AND")
    except _Unreadable as found:
        return BadFilter(str(found))
    return tuple(conditions)


def text_of(conditions: Iterable[Condition], kind: ResourceKind) -> str:
    """A text that `parse` reads as these conditions, the same for the same ones."""
    return " AND ".join(_text_of(condition, kind) for condition in conditions)


class _Unreadable(Exception):
    pass


class _Reading:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def at_end(self) -> bool:
        return self._position == len(self._text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._position)
        if match is not None:
            self._position = match.end()
        return match

    def expect(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = self.take(pattern)
        if match is None:
            raise _Unreadable(f"expected {what} at character {self._position + 1}")
        return match


def _condition(reading: _Reading, fields: Mapping[str, Field], kind: ResourceKind) -> Condition:
    match = reading.expect(_FIELD, "a field")
    name = match.group(1)
    field = fields.get(name)
    if name.startswith(LABEL_PREFIX) and kind is ResourceKind.INSTANCE:
        field = _TEXT
        if match.group(2) is not None:
            name = LABEL_PREFIX + _ESCAPED.sub(r"\1", match.group(2))
    if field is None:
        known = ", ".join(fields) or "none"
        raise _Unreadable(f"there is no field {name[:80]}; the fields are: {known}")
    operator = reading.expect(_OPERATOR, "=, != or IN").group(1)
    if operator != "IN":
        return Condition(name, (_value(reading, name, field),), negated=operator == "!=")
    reading.expect(_OPEN, "(")
    values = [_value(reading, name, field)]
    while reading.take(_COMMA):
        if len(values) == VALUES_MAX:
            raise _Unreadable(f"more than {VALUES_MAX} values of {name}")
        values.append(_value(reading, name, field))
    reading.expect(_CLOSE, ", or )")
    return Condition(name, tuple(values))


def _value(reading: _Reading, name: str, field: Field) -> str:
    value = _ESCAPED.sub(r"\1", reading.expect(_VALUE, 'a "VALUE"').group(1))
    if field.words is None:
        return value.lower() if field.lower else value
    held = field.words.get(value.removeprefix(field.prefix))
    if held is None:
        raise _Unreadable(f"{name} cannot be that; it is one of: {', '.join(field.words)}")
    return held


def _text_of(condition: Condition, kind: ResourceKind) -> str:
    name = condition.field
    field = {**FIELDS[kind], **FIELDS_OF_ADMINS.get(kind, {})}.get(name, _TEXT)
    if name.startswith(LABEL_PREFIX):
        name = LABEL_PREFIX + _quoted(name.removeprefix(LABEL_PREFIX))
    word_of = {held: word for word, held in (field.words or {}).items()}
    values = [_quoted(word_of.get(value, value)) for value in condition.values]
    if condition.negated:
        return f"{name} != {values[0]}"
    return f"{name} = {values[0]}" if len(values) == 1 else f"{name} IN ({', '.join(values)})"


def _quoted(text: str) -> str:
    return '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'
