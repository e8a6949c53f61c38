"""Tables and cards for people, laid out for the width of their terminal. Takes the JSON form of
resources; which columns there are is columns.py's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.logic.columns import COLUMNS, Column, Row
from services.cli.logic.words import clean, cut, word

BETWEEN = "  "
NOTHING = "-"
NARROWEST_CELL = 8


def table(noun: str, rows: Sequence[Row], *, width: int | None = None) -> str:
    """The rows under their titles, columns two blanks apart; a sentence if there are none.

    What does not fit into `width` letters is left out, column by column, then cut; None fits all.
    """
    if not rows:
        return f"no {noun}s"
    columns = {
        column.title: [column.title, *(clean(column.show(row)) or NOTHING for row in rows)]
        for column in COLUMNS[noun]
    }
    if width is not None:
        columns = _fitting(COLUMNS[noun], columns, width)
    widths = {title: max(map(len, cells)) for title, cells in columns.items()}
    return "\n".join(
        BETWEEN.join(cells[line].ljust(widths[title]) for title, cells in columns.items()).rstrip()
        for line in range(len(rows) + 1)
    )


def _fitting(
    columns: Sequence[Column], cells: Mapping[str, list[str]], width: int
) -> dict[str, list[str]]:
    kept = dict(cells)

    def worth(column: Column) -> tuple[bool, int]:
        # What has nothing to say goes first.
        return set(cells[column.title][1:]) == {NOTHING}, column.rank

    for column in sorted(columns, key=worth, reverse=True):
        if _width(kept) <= width:
            break
        if column.rank:
            del kept[column.title]
    while (too_wide := _width(kept) - width) > 0:
        widest = max(kept, key=lambda title: max(map(len, kept[title])))
        present = max(map(len, kept[widest]))
        if present <= NARROWEST_CELL:
            break
        narrower = max(NARROWEST_CELL, present - too_wide)
        kept[widest] = [cut(cell, narrower) for cell in kept[widest]]
    return kept


def _width(cells: Mapping[str, list[str]]) -> int:
    return sum(max(map(len, column)) for column in cells.values()) + len(BETWEEN) * (len(cells) - 1)


def card(row: Row) -> str:
    """One resource, a line per field; nested fields as `outer.inner`, empty ones left out."""
    lines = list(_flat("", _together(row)))
    width = max((len(key) for key, _ in lines), default=0)
    return "\n".join(f"{key.ljust(width)}  {clean(value)}" for key, value in lines)


def _together(row: Row) -> Row:
    """What can be asked and what not stand together, whatever lies between them in the contract."""
    blocked = row.get("blocked_actions")
    ordered: dict[str, Any] = {}
    for key, value in row.items():
        if key != "blocked_actions":
            ordered[key] = value
        if key == "allowed_actions" and blocked is not None:
            ordered["blocked_actions"] = blocked
    return ordered


def _flat(prefix: str, row: Row) -> Sequence[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            lines += _flat(f"{prefix}{key}.", value)
        elif key == "blocked_actions":
            lines += [(f"{prefix}{key}.{word(b['action'])}", _blocked(b)) for b in value]
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value):
                lines += _flat(f"{prefix}{key}.{number}.", entry)
        elif isinstance(value, list):
            lines.append((prefix + key, ", ".join(word(str(entry)) for entry in value)))
        elif value not in ("", None):
            shown = str(value).lower() if isinstance(value, bool) else word(str(value))
            lines.append((prefix + key, shown))
    return [(key, value) for key, value in lines if value]


def _blocked(blocked: Row) -> str:
    return f"{blocked.get('message', '')} ({blocked.get('reason', '')})".strip()
