"""Conditions of a filter, as the contract's grammar writes them."""

import re
from collections.abc import Sequence

from services.domain.errors import Invalid

_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
NAME_LETTERS_MAX = 63


def condition(field: str, value: str) -> str:
    """One condition, the value quoted."""
    return f"{field} = {_quoted(value)}"


def one_of(field: str, values: Sequence[str]) -> str:
    """The condition that it has one of these values."""
    return f"{field} IN ({', '.join(map(_quoted, values))})"


def both(*conditions: str) -> str:
    """Those that are not empty, all of which must hold."""
    return " AND ".join(one for one in conditions if one)


def id_in(word: str) -> str:
    """The id that a word is, lower case; empty if it is a name."""
    lower = word.lower()
    return lower if _UUID.match(lower) else ""


def is_name(word: str) -> bool:
    """Whether something can have this name: what cannot needs no question."""
    return bool(word) and word.isprintable() and len(word) <= NAME_LETTERS_MAX


def about(word: str) -> str:
    """The condition that a thing is the one that a person calls so. Raises Invalid."""
    if found := id_in(word):
        return condition("id", found)
    if not is_name(word):
        raise Invalid("INVALID_FIELD", "a name is 1 to 63 printable characters", field="name")
    return condition("name", word)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
