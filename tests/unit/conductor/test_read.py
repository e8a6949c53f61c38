"""Reading: whose turn it is, and what nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.conductor.flows.ports import Page, Query
from services.conductor.flows.read import Reader
from services.conductor.logic.rows import Caller
from services.domain.errors import CloudError, NoCapacity
from services.domain.kinds import ResourceKind
from services.domain.resources import UNLIMITED

NOTHING = Page((), 1, more=False)
A, B = Caller("a", "a", cloud_admin=False), Caller("b", "b", cloud_admin=False)


class Pages:
    """A store in which a list takes until the test says so."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.free = asyncio.Event()
        self.error: CloudError | None = None

    async def records_read(self, queries: Sequence[Query]) -> list[Page]:
        self.asked.append([query.project_id for query in queries])
        if not queries[0].id:
            await self.free.wait()
            if self.error is not None:
                raise self.error
        return [NOTHING for _ in queries]


@asynccontextmanager
async def reading(store: Any) -> AsyncIterator[Reader]:
    reader = Reader(store, store, UNLIMITED)
    running = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(60):
            yield reader
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def page() -> Query:
    return Query(ResourceKind.INSTANCE, "", "", "", 9)


async def test_a_look_at_one_thing_does_not_wait_for_lists() -> None:
    store = Pages()
    async with reading(store) as reader:
        listing = asyncio.create_task(reader.read(A, page()))
        await asyncio.sleep(0)
        assert await reader.read(B, Query(ResourceKind.INSTANCE, "id", "", "", 1)) == NOTHING
        assert not listing.done()
        store.free.set()
        assert await listing == NOTHING


async def test_lists_are_read_one_by_one_and_projects_take_turns() -> None:
    """Who sends many waits behind itself."""
    store = Pages()
    async with reading(store) as reader:
        wanted = [A, A, A, A, B]
        lists = [asyncio.create_task(reader.read(caller, page())) for caller in wanted]
        await asyncio.sleep(0)
        store.free.set()
        await asyncio.gather(*lists)
    assert store.asked == [["a"], ["b"], ["a"], ["a"], ["a"]]


async def test_a_list_that_took_too_long_is_not_read_again() -> None:
    store = Pages()
    store.error = NoCapacity("READ_TOO_LONG", "too long")
    store.free.set()
    async with reading(store) as reader:
        with pytest.raises(NoCapacity) as refused:
            await reader.read(A, page())
    assert refused.value.reason == "READ_TOO_LONG"
    assert len(store.asked) == 1
