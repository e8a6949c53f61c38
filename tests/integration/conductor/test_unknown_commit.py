"""The connection dies between COMMIT and answer: the same is committed again, and nothing is there
twice. MECHANICS A5.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.conductor.flows.decide import Decision
from services.conductor.logic.observation import Seen
from services.domain.instance import Power, State
from services.domain.resources import Resources
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


@dataclass
class Bench:
    """A conductor whose way to its database can be cut."""

    made: Conductor
    way: Severed
    place: Place
    ids: tuple[str, str]

    async def create(self, name: str) -> str:
        """An accepted instance's id."""
        accepted = await self.made.instances.create(asked(), new_instance(name, self.ids))
        return accepted.resource.id

    async def claimed(self, name: str) -> Seen:
        """An instance on h1, and what h1 says when it runs as wanted."""
        instance_id = await self.create(name)
        await self.made.decider.decide([Decision(instance_id, 1, "h1", 1, {})])
        situation = (await self.made.store.situations_read([instance_id]))[instance_id]
        assert situation.holder is not None
        return Seen(
            instance_id, situation.holder.epoch, "h1", situation.holder.host_incarnation, 1, 1,
            Power.RUNNING, False,
        )  # fmt: skip

    def check(self) -> None:
        """The log has no gap, versions neither, and the ledger is the sum of the claims."""
        sql = self.place.sql
        assert sql("SELECT count(*) = max(revision), max(revision) FROM change") == (
            "t|" + sql("SELECT revision FROM counter")
        )
        assert not sql(
            "SELECT kind, id FROM change GROUP BY kind, id HAVING count(*) <> max(version)"
        )
        assert sql("SELECT used_vcpus, claim_count FROM host") == sql(
            "SELECT coalesce(sum(vcpus), 0), count(*) FROM claim"
        )


@pytest.fixture
async def bench(place: Place) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stead-")))
        way = await stack.enter_async_context(severed(folder / "way", place.server.folder))
        url = f"postgresql://stead@/{place.database}?host={folder / 'way'}"
        made = await stack.enter_async_context(conductor(url, Sent()))
        await made.greeter.greet(hello())
        bench = Bench(made, way, place, await catalog(made))
        yield bench
        bench.check()


async def test_a_create_has_its_first_answer(bench: Bench) -> None:
    """The ids that the caller gets are those of the one instance and the one operation."""
    bench.way.arm(b"lost-answer")
    accepted = await bench.made.instances.create(asked(), new_instance("lost-answer", bench.ids))
    assert bench.way.cut == 1
    assert bench.place.sql("SELECT id FROM instance") == accepted.resource.id
    rows = bench.place.sql("SELECT id FROM operation WHERE action = 1")
    assert rows == accepted.operation.id
    assert accepted.resource.version == 1


async def test_a_batch_of_creates_has_its_first_answers(bench: Bench) -> None:
    """All that were in the lost round."""
    bench.way.arm(b"many-7")
    accepted = await asyncio.gather(
        *(
            bench.made.instances.create(asked(), new_instance(f"many-{n}", bench.ids))
            for n in range(20)
        )
    )
    assert bench.way.cut == 1
    ids = bench.place.sql("SELECT id FROM instance").split()
    assert sorted(ids) == sorted(one.resource.id for one in accepted)


async def test_a_claim_is_made_once(bench: Bench) -> None:
    """The second execution finds the instance moved on; the claim of the first is the one."""
    instance_id = await bench.create("web")
    bench.way.arm(b"h1")
    await bench.made.decider.decide([Decision(instance_id, 1, "h1", 1, {})])
    assert bench.way.cut == 1
    assert bench.place.sql("SELECT count(*), count(DISTINCT epoch) FROM claim") == "1|1"


async def test_an_observation_counts_once(bench: Bench) -> None:
    """It is acknowledged, and the instance has moved by one version."""
    seen = await bench.claimed("web")
    before = (await bench.made.store.situations_read([seen.instance_id]))[seen.instance_id]
    bench.way.arm(b"h1")
    await bench.made.observer.observe([seen])
    assert bench.way.cut == 1
    situation = (await bench.made.store.situations_read([seen.instance_id]))[seen.instance_id]
    assert situation.instance.standing.state is State.ACTIVE
    assert situation.instance.version == before.instance.version + 1
    assert situation.operation is None


async def test_a_delete_has_its_first_answer(bench: Bench) -> None:
    """One operation removes it; the resources return once, when the host has confirmed."""
    seen = await bench.claimed("web")
    await bench.made.observer.observe([seen])
    bench.way.arm(b"delete_instance")
    accepted = await bench.made.instances.delete(asked("delete_instance"), seen.instance_id)
    assert bench.way.cut == 1
    assert bench.place.sql("SELECT id FROM operation WHERE action = 2") == accepted.operation.id
    gone = Seen(
        seen.instance_id, seen.epoch, "h1", seen.incarnation, 2, 0, Power.OFF, absent=True
    )  # fmt: skip
    bench.way.arm(b"h1")
    await bench.made.observer.observe([gone])
    assert bench.way.cut == 2
    assert bench.place.sql("SELECT state FROM instance") == str(State.DELETED.value)
    assert bench.place.sql("SELECT used_vcpus, claim_count FROM host") == "0|0"


async def test_a_greeting_gives_an_incarnation_of_its_own(bench: Bench) -> None:
    """One may be wasted, none is shared, and the view is of the newest."""
    bench.way.arm(b"machine")
    view = await bench.made.greeter.greet(hello())
    assert bench.way.cut == 1
    assert bench.place.sql("SELECT incarnation FROM host") == str(view.incarnation)


async def test_a_flavor_is_made_and_deleted_once(bench: Bench) -> None:
    """The catalog takes the same way."""
    bench.way.arm(b"tiny")
    made = await bench.made.catalog.create_flavor(
        asked("create_flavor"), "tiny", Resources(1, 1, 1)
    )
    assert bench.way.cut == 1
    assert bench.place.sql("SELECT id FROM catalog WHERE name = 'tiny'") == made.resource.id
