"""At fifty thousand instances: a page of an audit costs what is in it, never a whole table."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from services.conductor.edges.store import audit, unknown
from services.conductor.flows.audit import OWNERS_MAX, PAGE_MAX
from services.conductor.logic.items import Item
from services.domain.kinds import ClaimRole
from tests.engines import Postgres
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.test_plans import FILL, PLANNERS, ROWS
from tests.stores import claim_all, create, host, new_store
from tests.unit.conductor.situations import instance

# Every host has told of the guests that it should have, but one of a stranger; every operation but
# those of one instance in a hundred is finished; projects are known but for every tenth.
GUESTS = """
INSERT INTO inventory SELECT id, 1, 1, 1, false, now() FROM host;
INSERT INTO guest SELECT host_id, instance_id, epoch, 1, 2, now() FROM claim;
INSERT INTO guest SELECT 'x1500', gen_random_uuid(), 9, 1, 2, now();
INSERT INTO project (id) SELECT 'p' || n FROM generate_series(1, 50) n WHERE n % 10 > 0;
INSERT INTO project (id) SELECT 'q' || n FROM generate_series(1, 2000) n;
ANALYZE
"""
MIDDLE = "80000000-0000-0000-0000-000000000000"
HOSTS = [f"x{n}" for n in range(100, 100 + OWNERS_MAX)]
PER_HOST = ROWS // 2000
# Few of fifty thousand: a plan may as well read those above a place and sort them.
UNFINISHED = ROWS // 100
PER_PROJECT = ROWS // 50

# The statement, its arguments, and how many rows it may read, in all tables together. A page of
# instances looks for a claim and an operation of each.
PAGES: dict[str, tuple[str, list[tuple[str, Any]], int]] = {
    "one host": (audit.HOST, [("text", "x7")], 2 * PER_HOST + 1),
    "hosts": (audit.HOSTS, [("text", "x2"), ("bigint", OWNERS_MAX)], OWNERS_MAX * 2 * PER_HOST),
    "projects": (audit.PROJECTS, [("text", "p3"), ("bigint", 2)], 5 * PER_PROJECT),
    "projects without instances": (
        audit.PROJECTS, [("text", "q"), ("bigint", OWNERS_MAX)], 4 * OWNERS_MAX,
    ),
    "instances": (
        audit.INSTANCES,
        [("uuid", MIDDLE), ("bigint", PAGE_MAX), ("smallint", int(ClaimRole.HOLDER))],
        4 * PAGE_MAX,
    ),
    "claims": (
        audit.CLAIMS, [("uuid", MIDDLE), ("bigint", 0), ("bigint", PAGE_MAX)], 3 * PAGE_MAX,
    ),
    "operations": (audit.OPERATIONS, [("text", "8"), ("bigint", 100)], UNFINISHED + 101),
    "hosts heard": (audit.HEARD, [("text[]", HOSTS)], 4 * OWNERS_MAX + 1),
    "guests": (audit.GUESTS, [("text[]", HOSTS)], 6 * OWNERS_MAX * PER_HOST),
    "end of unknown": (
        unknown.END_OF_ALL,
        [("text", "x2"), ("uuid", MIDDLE), ("bigint", 0), ("bigint", 1000)],
        1000,
    ),
    "end of a host's unknown": (
        unknown.END_OF_ONE,
        [("text", "x2"), ("uuid", MIDDLE), ("bigint", 0), ("bigint", 1000)],
        2 * PER_HOST + 1,
    ),
    "unknown": (
        unknown.OF_ALL,
        [("text", "x2"), ("uuid", MIDDLE), ("bigint", 0), ("bigint", 1000), ("bigint", 100)],
        3 * 1000 + 10,
    ),
    "a host's unknown": (
        unknown.OF_ONE,
        [("text", "x2"), ("uuid", unknown.FIRST_ID), ("bigint", 0), ("bigint", 1000),
         ("bigint", 100)],
        4 * PER_HOST + 10,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
async def full(server: Postgres) -> AsyncIterator[Place]:
    async with new_store(server) as (store, name):
        await store.items_commit([Item(host=host())])
        row = instance("template")
        await store.items_commit([create(row)])
        await claim_all(store, [row])
        place = Place(server, store, name)
        for statement in (FILL + ";\n" + GUESTS).split(";\n"):
            place.sql(statement)
        yield place


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """All nodes of a plan."""
    if isinstance(plan, list):
        for part in plan:
            yield from nodes(part)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for part in plan.values():
            yield from nodes(part)


def rows_read(plan: Any) -> int:
    """How many rows were read of tables and indexes, also those that were left out."""
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes(plan)
        if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node)
    )


@pytest.mark.parametrize("planner", PLANNERS, ids=["these values", "any values"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_an_audit_costs_what_is_in_it(full: Place, page: str, planner: str) -> None:
    """No table of the large ones is scanned, and no more is read than is told."""
    sql, arguments, most = PAGES[page]
    types = ", ".join(kind for kind, _ in arguments)
    values = ", ".join(_literal(kind, value) for kind, value in arguments)
    told = full.sql(
        f"{planner} PREPARE q ({types}) AS {sql};"
        f" EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE q ({values})"
    )
    plan = json.loads(told)
    assert rows_read(plan) <= most, told


def _literal(kind: str, value: Any) -> str:
    if isinstance(value, list):
        return f"'{{{', '.join(value)}}}'::{kind}"
    return f"'{value}'::{kind}"


async def test_a_stranger_among_all_guests_is_found_by_stretches(full: Place) -> None:
    """Fifty thousand that are known are passed over, a stretch at a time, none of them long."""
    audits = full.store.audits
    found = await audits.unknown_guests_read("", ("", "", 0), 10)
    assert [(guest.host_id, guest.epoch) for guest in found] == [("x1500", 9)]
    assert await audits.unknown_guests_read("", found[0].key, 10) == []
    assert await audits.unknown_guests_read("x1500", ("", "", 0), 10) == found
    assert await audits.unknown_guests_read("x1499", ("", "", 0), 10) == []
