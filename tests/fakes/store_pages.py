"""Pages of the store in memory: records as they are, or as they were at an earlier commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from services.conductor.edges.store import conditions
from services.conductor.edges.store.nouns import NOUNS, order_of
from services.conductor.edges.store.stretch import check_kept
from services.conductor.flows.ports import Page, Query
from services.conductor.logic.items import Record
from services.domain.errors import Invalid
from services.domain.ids import is_row_id
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.resources import QuotaAmounts
from tests.fakes.store_rows import Rows


def page_of(rows: Rows, query: Query, usual: QuotaAmounts) -> Page:
    """The page. Raises as the store's port says."""
    conditions.check(query.kind, query.conditions)
    order_of(query)
    if query.id and NOUNS[query.kind].id_type == "uuid" and not is_row_id(query.id):
        raise Invalid("FILTER_INVALID", "that is the id of no row", field="id")
    at = query.pinned_revision or rows.head
    if query.pinned_revision:
        check_kept(at, rows.head, rows.compacted)
    shown = {_key(query, one): one for one in _then(rows, query, at) if _sees(query, one)}
    after = (query.after_key if query.order is ListOrder.NAME else "", query.after_id)
    keys = sorted(shown, reverse=query.descending)
    if query.after_id:
        keys = [k for k in keys if (k < after if query.descending else k > after)]
    limit = 1 if query.id else query.limit
    # What stands in a row and not in its bytes is told as it is now.
    found = tuple(_as_read(rows, shown[key], usual) for key in keys[:limit])
    more = len(keys) > limit and query.is_page
    if not more:
        return Page(found, at, more=False)
    return Page(found, at, True, found[-1].id, keys[limit - 1][0])


def _then(rows: Rows, query: Query, at: int) -> Iterator[Record]:
    if query.id:
        found = rows.then((query.kind, query.id), at)
        if found is not None:
            yield found
        return
    for kind, id_ in list(rows.histories):
        if kind is query.kind:
            found = rows.then((kind, id_), at)
            if found is not None:
                yield found


def _sees(query: Query, one: Record) -> bool:
    scope = NOUNS[query.kind].scope
    open_to_all = "public" in scope and one.public
    owner = one.id if query.kind is ResourceKind.PROJECT else one.project_id
    if query.project_id and scope and owner != query.project_id and not open_to_all:
        return False
    if one.deleted and not query.deleted:
        return False
    return conditions.hold(query.kind, query.conditions, one.body)


def _key(query: Query, one: Record) -> tuple[str, str]:
    if query.order is not ListOrder.NAME:
        return ("", one.id)
    message: Any = conditions.MESSAGES[query.kind].FromString(one.body)
    return (message.name, one.id)


def _as_read(rows: Rows, one: Record, usual: QuotaAmounts) -> Record:
    one = replace(one, before=None)
    if one.kind is ResourceKind.PROJECT:
        project = rows.projects[one.id]
        if project.row.revision == one.revision:
            return replace(one, quota=(project.row.limits or usual, project.used))
    if one.kind is ResourceKind.OPERATION:
        known = rows.operations[one.id]
        if not known.row.finished and known.row.revision == one.revision:
            return replace(
                one, next_look_us=round(known.look_again_at_s * 1_000_000), looks=known.looks
            )
    return one
