"""What tests of the conductor's store stand on: items as the flows make them, fresh databases."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from services.conductor.edges.store.bounds import USUAL_BOUNDS, Bounds
from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Store
from services.conductor.logic import lifecycle, operations
from services.conductor.logic.items import Item, Outcome, Refused, RequestKey
from services.conductor.logic.rows import FlavorRow, HostRow, InstanceRow, KeyPairRow, ProjectRow
from services.domain.errors import Unavailable
from services.domain.kinds import HostState
from services.domain.operation import OperationAction
from services.domain.resources import NOTHING, UNLIMITED, Overcommit, QuotaAmounts, Resources
from services.runtime.ids import new_id
from tests.engines import Postgres

Answer = TypeVar("Answer")

CLOUD = "abcdefabcdef"
_names = itertools.count()
_migrated: set[Path] = set()


async def new_database(server: Postgres) -> str:
    """The name of a new, migrated database: a copy of the server's first, which nobody uses."""
    if server.folder not in _migrated:
        # One that was left half-way would fail every test after it.
        server.sql("DROP DATABASE IF EXISTS migrated WITH (FORCE)")
        server.sql("CREATE DATABASE migrated")
        await migrate(server.url("migrated"), CLOUD)
        _migrated.add(server.folder)
    name = f"store{next(_names)}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE migrated")
    return name


async def once_back(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of a store whose database is there again, which it notices by itself: asked until
    it is not refused, as its callers do.
    """
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                return await ask()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def new_store(
    server: Postgres, usual: QuotaAmounts = UNLIMITED, bounds: Bounds = USUAL_BOUNDS
) -> AsyncIterator[tuple[PostgresStore, str]]:
    """A store over a new database, and its name; both are gone afterwards."""
    name = await new_database(server)
    store = PostgresStore(server.url(name), usual_limits=usual, bounds=bounds)
    try:
        yield store, name
    finally:
        await store.close()
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def host(
    host_id: str = "h1", target: Resources = Resources(8, 1000, 100), seen: int = 0
) -> HostRow:
    """A greeting host."""
    return HostRow(
        host_id, seen, "machine", "boot", HostState.UP, True, seen + 1, target, NOTHING,
        Overcommit(), target, b"", "1", 1.0,
    )  # fmt: skip


def flavor(name: str = "small", **changes: object) -> FlavorRow:
    """A new size."""
    row = FlavorRow(new_id(), name, Resources(1, 1, 1), 1.0)
    return replace(row, **changes)  # type: ignore[arg-type]  # the caller names fields of the row


def key_pair(name: str = "laptop", **changes: object) -> KeyPairRow:
    """A new public key of project p."""
    row = KeyPairRow(new_id(), "p", name, "ssh-ed25519 AAAA", "SHA256:x", "ssh-ed25519", 1.0)
    return replace(row, **changes)  # type: ignore[arg-type]  # as above


def project(project_id: str = "p", **changes: object) -> ProjectRow:
    """A project to make known."""
    row = ProjectRow(project_id, "Project", 1.0)
    return replace(row, **changes)  # type: ignore[arg-type]  # as above


def create(row: InstanceRow, request_id: str = "", fingerprint: bytes = b"f") -> Item:
    """Commit 1 of a create."""
    request_id = request_id or new_id()
    operation = operations.new_operation(
        new_id(),
        row,
        action=OperationAction.CREATE_INSTANCE,
        author=operations.Author("me", request_id),
        now_s=1.0,
    )
    key = RequestKey(row.project_id, "me", "create", request_id, fingerprint, row.id, operation.id)
    return Item(request=key, instance=row, operations=(operation,), look_again_s=0.0)


def refusals(outcomes: list[Outcome]) -> list[str]:
    """Refusals by name, "" for what was committed."""
    return [o.refusal.value if isinstance(o, Refused) else "" for o in outcomes]


async def claim_all(store: Store, rows: list[InstanceRow], host_id: str = "h1") -> list[Outcome]:
    """Commit 2 of several creates in one batch."""
    situations = await store.situations_read([row.id for row in rows])
    items = [lifecycle.claimed(situations[row.id], host_id, 2.0) for row in rows]
    return await store.items_commit([item for item in items if item is not None])
