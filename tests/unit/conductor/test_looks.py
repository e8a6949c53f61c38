"""What a wish looks at before it is decided: nothing for a caller who has stopped waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.conductor.flows.accept import Acceptance
from services.conductor.flows.answer import Answerer, Asked
from services.conductor.flows.commit import Committer
from services.conductor.logic.rows import Caller
from services.domain.errors import NotFound, Unavailable
from services.domain.kinds import ResourceKind
from services.domain.resources import UNLIMITED

CALLER = Caller("p", "me", cloud_admin=False)
FLAVOR = (ResourceKind.FLAVOR, "f")


class Reads:
    """A store that knows nothing and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def situations_read(self, ids: list[str]) -> dict[str, Any]:
        self.asked.append("situations")
        return {}

    async def catalog_read(self, wanted: list[tuple[ResourceKind, str]]) -> dict[Any, Any]:
        self.asked.append("catalog")
        return {}


@asynccontextmanager
async def accepting(store: Any) -> AsyncIterator[Acceptance]:
    acceptance = Acceptance(
        store=store,
        committer=Committer(store, store),
        clock=store,
        ids=store,
        answers=Answerer(store, store, UNLIMITED),
    )
    running = asyncio.create_task(acceptance.run())
    try:
        async with asyncio.timeout(60):
            yield acceptance
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def asked(left_s: float | None) -> Asked:
    until = None if left_s is None else asyncio.get_running_loop().time() + left_s
    return Asked(CALLER, "create_instance", "r", b"f", deadline=until)


async def test_a_look_of_a_caller_whose_time_has_passed_is_dropped_before_it_is_read() -> None:
    store = Reads()
    async with accepting(store) as acceptance:
        with pytest.raises(Unavailable) as instance:
            await acceptance.instance(asked(-1), "i")
        with pytest.raises(Unavailable) as entry:
            await acceptance.entries(asked(-1), FLAVOR, FLAVOR)
    assert {instance.value.reason, entry.value.reason} == {"DEADLINE_PASSED"}
    assert store.asked == []


@pytest.mark.parametrize("left_s", [60.0, None])
async def test_a_look_of_a_caller_who_waits_is_read(left_s: float | None) -> None:
    store = Reads()
    async with accepting(store) as acceptance:
        with pytest.raises(NotFound):
            await acceptance.instance(asked(left_s), "i")
        assert await acceptance.entries(asked(left_s), FLAVOR) == [None]
    assert store.asked == ["situations", "catalog"]
