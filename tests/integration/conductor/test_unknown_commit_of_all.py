"""The answer to a commit is lost, for every kind of item that there is: each wish of the contract,
and what nobody wished: refusals of schedulers, hosts that fall silent. MECHANICS A5.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from services.conductor.flows.decide import Decision
from services.conductor.logic.items import Item
from services.domain.kinds import HostState
from services.domain.operation import OperationState
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import (
    Conductor,
    Sent,
    asked,
    catalog,
    conductor,
    hello,
    new_instance,
)
from tests.integration.conductor.severed import Severed, severed
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.test_killed import wished
from tests.integration.conductor.wishes import WISHES, send

REVISION = "SELECT revision FROM counter"


@dataclass
class Bench:
    """A conductor whose way to its database can be cut."""

    made: Conductor
    way: Severed
    place: Place


@pytest.fixture
async def bench(place: Place) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stead-")))
        way = await stack.enter_async_context(severed(folder / "way", place.server.folder))
        url = f"postgresql://stead@/{place.database}?host={folder / 'way'}"
        made = await stack.enter_async_context(conductor(url, Sent()))
        yield Bench(made, way, place)
        check_books(place)


def request_id_of(mutation: Any) -> str:
    """The caller's request id, wherever the wish has it."""
    wish = getattr(mutation, mutation.WhichOneof("wish"))
    for inner in (wish, getattr(wish, "create", None), getattr(wish, "description", None)):
        if request_id := getattr(inner, "request_id", ""):
            return str(request_id)
    raise AssertionError(f"no request id in {wish}")


async def test_every_wish_has_its_first_answer(bench: Bench) -> None:
    """The second execution changes nothing, answers as the first did, and so does the third."""
    for cut, (wish, mutation) in enumerate((await wished(bench.made)).items(), start=1):
        bench.way.arm(uuid.UUID(request_id_of(mutation)).bytes)
        (first,) = await send(bench.made, mutation)
        assert not first.HasField("error"), (wish, first.error)
        assert bench.way.cut == cut, wish
        before = bench.place.sql(REVISION)
        (again,) = await send(bench.made, mutation)
        assert (again.resource.id, again.operation.id) == (first.resource.id, first.operation.id)
        assert bench.place.sql(REVISION) == before, wish
    assert bench.way.cut == len(WISHES)


async def test_a_refusal_of_the_schedulers_counts_once(bench: Bench) -> None:
    ids = await catalog(bench.made)
    accepted = await bench.made.instances.create(asked(), new_instance("nowhere", ids))
    bench.way.arm(uuid.UUID(accepted.operation.id).bytes)
    await bench.made.decider.decide([Decision(accepted.resource.id, 1, "", 3, {"room": 3})])
    assert bench.way.cut == 1
    ended = bench.place.sql(
        f"SELECT state, version FROM operation WHERE id = '{accepted.operation.id}'"
    )
    assert ended == f"{OperationState.FAILED.value}|2"


async def test_a_state_of_a_host_is_recorded_once(bench: Bench) -> None:
    await bench.made.greeter.greet(hello())
    row = (await bench.made.store.hosts_read(["h1"]))["h1"]
    bench.way.arm(b"h1")
    await bench.made.committer.commit(Item(host=replace(row, state=HostState.DOWN)))
    assert bench.way.cut == 1
    state = bench.place.sql("SELECT state, version FROM host WHERE id = 'h1'")
    assert state == f"{HostState.DOWN.value}|2"
