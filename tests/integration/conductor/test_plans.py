"""At fifty thousand instances: what is asked all the time reads by index, never a whole table."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from services.conductor.edges.store import (
    due,
    log,
    pages,
    pinned,
    postgres,
    queries,
    session,
    stretch,
)
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item
from services.conductor.logic.observation import Seen
from services.domain.condition import Condition
from services.domain.instance import Power
from services.domain.kinds import ListOrder, ResourceKind
from tests.engines import Postgres
from tests.integration.conductor.conftest import Place
from tests.stores import claim_all, create, host, new_store, refusals
from tests.unit.conductor.situations import instance

ROWS = 50_000
OWN = ("jit", "plan_cache_mode", "enable_seqscan")
PLANNERS = (
    "SET plan_cache_mode = force_custom_plan;",
    "".join(f"SET {name} = {session.SETTINGS[name]};" for name in OWN),
)
LARGE = ("instance", "operation", "claim", "change", "change_1", "request")

# One real row of each, 50,000 times: 2,000 hosts, 50 projects, a tenth of the instances gone, one
# operation in a hundred under way.
FILL = f"""
INSERT INTO host SELECT r.* FROM host h, generate_series(1, 2000) n,
       LATERAL jsonb_populate_record(h, jsonb_build_object('id', 'x' || n)) r;
CREATE TABLE made AS SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS operation_id
  FROM generate_series(1, {ROWS}) n;
INSERT INTO instance SELECT r.* FROM instance i, made m, LATERAL jsonb_populate_record(i,
       jsonb_build_object('id', m.id, 'name', 'x' || m.n, 'project_id', 'p' || m.n % 50,
                          'deleted', m.n % 10 = 0)) r;
INSERT INTO operation SELECT r.* FROM operation o, made m, LATERAL jsonb_populate_record(o,
       jsonb_build_object('id', m.operation_id, 'resource_id', m.id,
                          'project_id', 'p' || m.n % 50, 'finished', m.n % 100 > 0)) r;
INSERT INTO claim SELECT r.* FROM claim c, made m, LATERAL jsonb_populate_record(c,
       jsonb_build_object('instance_id', m.id, 'host_id', 'x' || 1 + m.n % 2000)) r
 WHERE m.n % 10 > 0;
INSERT INTO change SELECT r.* FROM change l, generate_series(1, {ROWS}) n,
       LATERAL jsonb_populate_record(l, jsonb_build_object('revision', 100 + n)) r
 WHERE l.revision = 1;
INSERT INTO request SELECT r.* FROM request q, made m,
       LATERAL jsonb_populate_record(q, jsonb_build_object('request_id', m.id)) r;
UPDATE counter SET revision = 100 + {ROWS};
DROP TABLE made;
ANALYZE
"""

UUIDS = f"'{{{','.join(str(uuid.uuid4()) for _ in range(64))}}}'"
STATEMENTS = {
    "situations": (queries.SITUATIONS, ["uuid[]"], [UUIDS]),
    "due operations": (
        due.TAKE,
        ["bigint", "float8", "smallint[]", "float8", "float8", "float8", "float8"],
        ["500", "60", "'{1}'", "1", "2", "60", "0.25"],
    ),
    "view": (queries.VIEW, ["text"], ["'x1'"]),
    "log": (log.CHANGES, ["bigint", "bigint", "bigint"], ["40000", "500", "4000000"]),
    "beats": (
        postgres.RENEW,
        ["text[]", "bigint[]", "boolean[]", "smallint", "float8"],
        ["'{x1, x2}'", "'{1, 1}'", "'{f, t}'", "3", "20"],
    ),
}


@pytest.fixture(scope="module")
async def full(server: Postgres) -> AsyncIterator[Place]:
    async with new_store(server) as (store, name):
        await store.items_commit([Item(host=host())])
        row = instance("template")
        await store.items_commit([create(row)])
        await claim_all(store, [row])
        place = Place(server, store, name)
        for statement in FILL.split(";\n"):
            place.sql(statement)
        yield place


def scans(plan: Any) -> Iterator[str]:
    """The tables that a plan reads from their start, or through an index from its start."""
    if isinstance(plan, list):
        for part in plan:
            yield from scans(part)
    elif isinstance(plan, dict):
        kind = plan.get("Node Type", "")
        if kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in plan):
            # An index begins with the name of its table.
            yield plan.get("Relation Name") or plan["Index Name"].partition("_")[0]
        for part in plan.values():
            yield from scans(part)


def explained(place: Place, sql: str, types: list[str], values: list[str]) -> list[list[str]]:
    """What is scanned by the plan for these values, and by the one for any under the settings of
    the conductor's sessions.
    """
    found = []
    for planner in PLANNERS:
        told = place.sql(
            f"{planner} PREPARE q ({', '.join(types)}) AS {sql};"
            f" EXPLAIN (FORMAT JSON) EXECUTE q ({', '.join(values)})"
        )
        found.append([table for table in scans(json.loads(told)) if table in LARGE])
    return found


async def test_hot_statements_read_by_index(full: Place) -> None:
    """Both with the plan for the values at hand and with the one for any values."""
    for name, (sql, types, values) in STATEMENTS.items():
        assert explained(full, sql, types, values) == [[], []], name


def told(place: Place, sql: str, arguments: list[Any]) -> str:
    """Asserts that a statement reads by index whatever the values; gives the plan for any."""
    types, values = zip(*map(_as_sql, arguments), strict=True)
    assert explained(place, sql, list(types), list(values)) == [[], []], sql
    return place.sql(
        f"{PLANNERS[1]} PREPARE q ({', '.join(types)}) AS {sql};"
        f" EXPLAIN (FORMAT JSON) EXECUTE q ({', '.join(values)})"
    )


def _as_sql(argument: Any) -> tuple[str, str]:
    if isinstance(argument, list):
        kind, value = _as_sql(argument[0])
        return f"{kind}[]", f"ARRAY[{value}]::{kind}[]"
    if isinstance(argument, int):
        return "bigint", str(argument)
    kind = "uuid" if re.fullmatch(r"[0-9a-f-]{36}", argument) else "text"
    return kind, f"'{argument}'"


async def test_pages_read_by_index(full: Place) -> None:
    """One row, a project's page, everybody's page: in the order of ids, no more than the page; of
    a project also in the order of names.
    """
    some_id = full.sql("SELECT id FROM instance ORDER BY id LIMIT 1 OFFSET 20000")
    for kind in (ResourceKind.INSTANCE, ResourceKind.OPERATION):
        told(full, *pages.singles_statement([Query(kind, some_id, "", "", 1)]))
        running = (Condition("state", ("1",)),)
        listed = [
            Query(kind, "", "p7", some_id, 100),
            Query(kind, "", "", some_id, 100),
            Query(kind, "", "p7", some_id, 100, running),
            Query(kind, "", "p7", some_id, 100, descending=True, pinned_revision=200),
        ]
        if kind is ResourceKind.INSTANCE:
            by_name = Query(kind, "", "p7", some_id, 100, order=ListOrder.NAME, after_key="x1")
            listed += [by_name, replace(by_name, descending=True)]
        for query in listed:
            plan = told(full, *stretch.statement(query, 101, 10_000))
            assert '"Node Type": "Sort"' not in plan, query


async def test_what_was_is_brought_back_by_index(full: Place) -> None:
    """The way back through the log is by its key, what left the lists is found by its index."""
    told(full, pinned.BACK, [[50_000, 40_000], 200])
    for order in ListOrder:
        query = Query(
            ResourceKind.INSTANCE, "", "p7", "0", 100, order=order, after_key="x", pinned_revision=9
        )
        told(full, *pinned.moved_statement(query, ("y", "f"), 100))


async def test_commits_read_by_index(full: Place) -> None:
    """A create, a claim, an observation and a delete, often enough that every plan is the general
    one, scan no large table.
    """
    before = _scanned(full)
    store = PostgresStore(full.url)
    for n in range(12):
        row = replace(instance(f"new{n}"), project_id="p7")
        assert refusals(await store.items_commit([create(row)])) == [""]
        assert refusals(await claim_all(store, [row], f"x{n + 1}")) == [""]
        situation = (await store.situations_read([row.id]))[row.id]
        assert situation.holder is not None
        gone = Seen(
            row.id, situation.holder.epoch, f"x{n + 1}", 1, 1, 0, Power.OFF, True, ("X", "y")
        )
        assert refusals(await store.items_commit([lifecycle.observed(situation, gone, 3.0)])) == [
            ""
        ]
        await store.operations_take(10)
    await store.close()
    assert _scanned(full) == before


def _scanned(place: Place) -> dict[str, int]:
    # What a session has counted is known once it has ended or said so.
    lines = place.sql(
        "SELECT pg_stat_force_next_flush() IS NULL;"
        f" SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN {LARGE!r}"
    ).splitlines()
    return {name: int(count) for name, _, count in (line.partition("|") for line in lines) if count}
