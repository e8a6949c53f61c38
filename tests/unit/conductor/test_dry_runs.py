"""Dry runs beside commits: small rounds, the least urgent, dropped when their time has passed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.conductor.flows.commit import CHECKS_MAX, Committer
from services.conductor.logic.items import Committed, Item, Outcome
from services.domain.errors import Unavailable


class Rounds:
    """A store and a bus that note what is done; commits take until the test says so."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def items_commit(self, items: Sequence[Item]) -> list[Outcome]:
        self.done.append(("commit", len(items)))
        await self.free.wait()
        return [Committed(()) for _ in items]

    async def items_check(self, items: Sequence[Item]) -> list[Outcome]:
        self.done.append(("check", len(items)))
        return [Committed(()) for _ in items]


@asynccontextmanager
async def committing(store: Any) -> AsyncIterator[Committer]:
    committer = Committer(store, store)
    running = asyncio.create_task(committer.run())
    try:
        async with asyncio.timeout(60):
            yield committer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_flood_of_dry_runs_goes_in_small_rounds() -> None:
    store = Rounds()
    async with committing(store) as committer:
        await asyncio.gather(*(committer.check(Item()) for _ in range(3 * CHECKS_MAX + 1)))
    assert store.done == [("check", CHECKS_MAX)] * 3 + [("check", 1)]


async def test_a_dry_run_whose_caller_has_gone_is_dropped() -> None:
    store = Rounds()
    async with committing(store) as committer:
        past = asyncio.get_running_loop().time() - 1
        with pytest.raises(Unavailable) as refused:
            await committer.check(Item(), deadline=past)
    assert refused.value.reason == "DEADLINE_PASSED"
    assert store.done == []


async def test_what_waits_to_be_committed_goes_before_a_dry_run() -> None:
    store = Rounds()
    store.free.clear()
    async with committing(store) as committer:
        first = asyncio.create_task(committer.commit(Item()))
        await settle()
        second = asyncio.create_task(committer.commit(Item()))
        await settle()
        dry = asyncio.create_task(committer.check(Item()))
        await settle()
        store.free.set()
        await asyncio.gather(first, second, dry)
    assert store.done == [("commit", 1), ("commit", 1), ("check", 1)]


async def test_commits_without_end_do_not_keep_a_dry_run_waiting_for_ever() -> None:
    """Nor does one that takes long."""
    store = Rounds()
    store.free.clear()
    async with committing(store) as committer:
        commits = []
        for _ in range(2):
            commits.append(asyncio.create_task(committer.commit(Item())))
            await settle()
        await committer.check(Item())
        assert not any(commit.done() for commit in commits)
        store.free.set()
        await asyncio.gather(*commits)
