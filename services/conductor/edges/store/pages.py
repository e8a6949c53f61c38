"""Records for readers: by id, or in pages that are all true to one commit.

Owns how far a page looks and where it ends. A page of the newest state is read in one statement;
the next ones are pinned to its revision: rows that are older stand in the tables, the others are
brought back from the log (`pinned`). Source: MECHANICS E4, E6.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from services.conductor.edges.store import conditions, pinned
from services.conductor.edges.store.bounds import Bounds
from services.conductor.edges.store.nouns import NOUNS, looked_at, order_of, record
from services.conductor.edges.store.stretch import (
    Stretch,
    Terms,
    check_kept,
    key_of,
    statement,
)
from services.conductor.flows.ports import Page, Query
from services.conductor.logic.items import Record
from services.domain.errors import Invalid, NoCapacity
from services.domain.ids import is_row_id

Connection = Any  # asyncpg.Connection is generic in its stubs only

SINGLES = "SELECT n.revision AS head, t.* FROM counter n LEFT JOIN ({rows}) t ON true"
ONE_NOUN = "SELECT {columns} FROM {table} WHERE {own} AND id = ANY ({ids})"


async def answers(connection: Connection, queries: Sequence[Query], terms: Terms) -> list[Page]:
    """The pages of the queries, in order; questions for single newest records in one statement.

    Raises Invalid (FILTER_INVALID, ORDER_INVALID), OutOfRange (REVISION_COMPACTED), NoCapacity
    (READ_TOO_LONG).
    """
    for query in queries:
        conditions.check(query.kind, query.conditions)
    try:
        single = [n for n, q in enumerate(queries) if not q.is_page]
        found = await _singles(connection, [queries[n] for n in single], terms) if single else []
        pages = dict(zip(single, found, strict=True))
        for n, query in enumerate(queries):
            if n not in pages:
                pages[n] = await _bounded(_page(connection, query, terms))
    except asyncpg.DataError as error:
        raise Invalid(
            "FILTER_INVALID", f"no row has such a value: {error}", field="filter"
        ) from None
    return [pages[n] for n in range(len(queries))]


async def _bounded(page: Awaitable[Page]) -> Page:
    """No statement runs on for long, and the same again would take as long."""
    try:
        return await page
    except asyncpg.QueryCanceledError as error:
        raise NoCapacity(
            "READ_TOO_LONG",
            "this page takes too long to read; ask for fewer rows, narrow the filter, or begin "
            "without a page token",
        ) from error


async def _singles(connection: Connection, queries: Sequence[Query], terms: Terms) -> list[Page]:
    sql, arguments = singles_statement(queries)
    rows = await connection.fetch(sql, *arguments)
    by_id = {
        (row["kind"], row["id"]): looked_at(record(row, terms.usual), row)
        for row in rows
        if row["id"] is not None
    }
    pages = []
    for query in queries:
        one = by_id.get((query.kind, query.id))
        shown = one is not None and _sees(query, one)
        pages.append(Page((one,) if one and shown else (), rows[0]["head"], more=False))
    return pages


def singles_statement(queries: Sequence[Query]) -> tuple[str, list[list[str]]]:
    """The statement for all these ids with the head that it is true at, and its arguments.

    Raises Invalid (FILTER_INVALID) for an id that no row can have.
    """
    ids: dict[Any, list[str]] = {}
    for query in queries:
        if NOUNS[query.kind].id_type == "uuid" and not is_row_id(query.id):
            raise Invalid("FILTER_INVALID", "that is the id of no row", field="id")
        ids.setdefault(query.kind, []).append(query.id)
    parts = []
    for place, kind in enumerate(ids, start=1):
        noun = NOUNS[kind]
        parts.append(
            ONE_NOUN.format(
                columns=noun.columns,
                table=noun.table,
                own=noun.own,
                ids=f"${place}::{noun.id_type}[]",
            )
        )
    return SINGLES.format(rows=" UNION ALL ".join(parts)), list(ids.values())


def _sees(query: Query, one: Record) -> bool:
    """Whether the query may and wants to see this record."""
    scope = NOUNS[query.kind].scope
    open_to_all = "public" in scope and one.public
    if query.project_id and scope and one.project_id != query.project_id and not open_to_all:
        return False
    if one.deleted and not query.deleted:
        return False
    return conditions.hold(query.kind, query.conditions, one.body)


async def _page(connection: Connection, query: Query, terms: Terms) -> Page:
    """A page, from as many stretches as it takes."""
    order_of(query)
    limit = 1 if query.id else query.limit
    found: list[tuple[str, Record]] = []
    revision, examined, after = query.pinned_revision, 0, (query.after_key, query.after_id)
    while True:
        here = replace(query, pinned_revision=revision, after_key=after[0], after_id=after[1])
        left = terms.bounds.examined - examined
        wanted = min(_chunk(here, limit + 1 - len(found), terms.bounds), left)
        stretch = await _stretch(connection, here, (wanted, left), terms)
        revision = revision or stretch.head
        examined += stretch.examined
        found += stretch.found
        if len(found) > limit:
            name, last = found[limit - 1]
            records = tuple(one for _, one in found[:limit])
            return Page(records, revision, True, last.id, name)
        records = tuple(one for _, one in found)
        if stretch.end is None:
            return Page(records, revision, more=False)
        if examined >= terms.bounds.examined:
            return Page(records, revision, True, stretch.end[1], stretch.end[0])
        after = stretch.end


def _chunk(query: Query, missing: int, bounds: Bounds) -> int:
    told_by_message = any(not conditions.column_type(query.kind, c) for c in query.conditions)
    if told_by_message:
        return bounds.chunk
    return max(missing, bounds.pinned) if query.pinned_revision else missing


async def _stretch(
    connection: Connection, query: Query, most: tuple[int, int], terms: Terms
) -> Stretch:
    """What follows in the order; `most` is how many rows are taken and looked at."""
    sql, arguments = statement(query, *most)
    rows = await connection.fetch(sql, *arguments)
    head, compacted = rows[0]["head"], rows[0]["compacted"]
    at = query.pinned_revision
    if at:
        check_kept(at, head, compacted)
    rows = [row for row in rows if row["id"] is not None]
    stretch = Stretch(head)
    if rows:
        stretch.examined = max(rows[-1]["place"], len(rows))
        if len(rows) == most[0] or stretch.examined == most[1]:
            stretch.end = key_of(query, rows[-1])
    if not at or at == head:
        kept = [(key_of(query, row)[0], record(row, terms.usual)) for row in rows if row["matched"]]
        stretch.found = [(k, one) for k, one in kept if _wants(query, one)]
        return stretch
    return await pinned.brought_back(connection, query, rows, stretch=stretch, terms=terms)


def _wants(query: Query, one: Record) -> bool:
    by_message = [c for c in query.conditions if not conditions.column_type(query.kind, c)]
    alive = query.deleted or not one.deleted
    return alive and conditions.hold(query.kind, by_message, one.body)
