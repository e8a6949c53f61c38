"""One look along the order of a list: its statement, and what came of it.

Owns keys, the bounds of a look, and what of a query becomes SQL.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.conductor.edges.store import conditions
from services.conductor.edges.store.bounds import Bounds
from services.conductor.edges.store.nouns import NOUNS, Noun, order_of
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Record
from services.domain.condition import Condition
from services.domain.errors import OutOfRange
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.resources import QuotaAmounts

Key = tuple[str, str]

ROWS = "SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT {bound}"
# {rows} is the look along the order. The row at its bound is told whether it matches or not.
PLAIN = """
SELECT n.revision AS head, k.revision AS compacted, t.*
  FROM counter n CROSS JOIN compaction k LEFT JOIN LATERAL (
    SELECT {columns}, true AS matched, 0 AS place FROM ({rows}) s) t ON true
"""
FILTERED = """
SELECT n.revision AS head, k.revision AS compacted, t.*
  FROM counter n CROSS JOIN compaction k LEFT JOIN LATERAL (
    SELECT {columns}, ({filter}) AS matched, place
      FROM (SELECT s.*, row_number() OVER () AS place FROM ({rows}) s) p
     WHERE ({filter}) OR place = {looked} LIMIT {wanted}) t ON true
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all reads of a store: its bounds, the limits of projects without their own."""

    usual: QuotaAmounts
    bounds: Bounds


@dataclass(slots=True)
class Stretch:
    """What a look found, with each record's value of the order's column, how many rows it looked
    at, and the last key that it came to, None at the end of the list.
    """

    head: int
    examined: int = 0
    end: Key | None = None
    found: list[tuple[str, Record]] = field(default_factory=list)


def key_of(query: Query, row: Any) -> Key:
    """Where a row stands in the query's order."""
    return (row["name"] if query.order is ListOrder.NAME else "", row["id"])


def check_kept(revision: int, head: int, compacted: int) -> None:
    """Raises OutOfRange (REVISION_COMPACTED) for a commit that cannot be looked back to."""
    if not compacted <= revision <= head:
        raise OutOfRange(
            "REVISION_COMPACTED",
            "what was then is no longer kept; begin again",
            metadata={"oldest_revision": str(compacted)},
        )


class Arguments(list[Any]):
    """The arguments of a statement as it is put together."""

    def place(self, argument: Any) -> str:
        """Where the argument stands."""
        self.append(argument)
        return f"${len(self)}"


def statement(query: Query, wanted: int, looked: int) -> tuple[str, list[Any]]:
    """The statement of a look that takes at most `wanted` rows of at most `looked`, and its
    arguments.
    """
    noun, arguments = NOUNS[query.kind], Arguments()
    narrow = [c for c in query.conditions if _narrows(query, c)]
    inside = [noun.own]
    # One row that has ended since then is found all the same.
    if not query.deleted and not (query.id and query.pinned_revision):
        inside.append(noun.living)
    if query.id:
        inside.append(f"id = {arguments.place(query.id)}::{noun.id_type}")
    if query.project_id and noun.scope:
        inside.append(noun.scope.format(arguments.place(query.project_id)))
    inside += _on_columns(query.kind, narrow, arguments.place)
    inside += after(query, noun, arguments.place)
    outside = _on_columns(
        query.kind, [c for c in query.conditions if c not in narrow], arguments.place
    )
    if query.pinned_revision and outside:
        # Newer rows were others then.
        newer = f"revision > {arguments.place(query.pinned_revision)}"
        outside = [f"({newer} OR {condition})" for condition in outside]
    bound = arguments.place(looked if outside else wanted)
    rows = ROWS.format(
        table=noun.table, where=" AND ".join(inside), order=ordered(query), bound=bound
    )
    if not outside:
        return PLAIN.format(columns=noun.columns, rows=rows), arguments
    sql = FILTERED.format(
        columns=noun.columns,
        rows=rows,
        filter=" AND ".join(outside),
        looked=bound,
        wanted=arguments.place(wanted),
    )
    return sql, arguments


def _narrows(query: Query, condition: Condition) -> bool:
    """Whether an index finds the rows that meet it: they need not be looked for."""
    if condition.negated:
        return False
    if condition.field == "name":
        return bool(query.project_id) and not query.pinned_revision
    return condition.field in ("id", "project_id")


def _on_columns(
    kind: ResourceKind, wanted: list[Condition], place: Callable[[Any], str]
) -> list[str]:
    return [
        conditions.sql(kind, condition, place(conditions.argument(kind, condition)))
        for condition in wanted
        if conditions.column_type(kind, condition)
    ]


def after(query: Query, noun: Noun, place: Callable[[Any], str]) -> list[str]:
    """What lies behind the query's key in its order."""
    if not query.after_id:
        return []
    beyond = "<" if query.descending else ">"
    after_id = f"{place(query.after_id)}::{noun.id_type}"
    if query.order is not ListOrder.NAME:
        return [f"id {beyond} {after_id}"]
    after_name = place(query.after_key)
    return [f"name {beyond}= {after_name}", f"(name, id) {beyond} ({after_name}, {after_id})"]


def ordered(query: Query) -> str:
    """The query's order as SQL. Raises Invalid (ORDER_INVALID)."""
    return ", ".join(f"{column} DESC" if query.descending else column for column in order_of(query))
