"""What crosses on the way: deletes and failing builds, decisions that come twice and late, images
that go while they are used, a database that crashes in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from services.conductor.edges.store.migrate import migrate
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.answer import Accepted
from services.conductor.flows.decide import Decision
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import Caller
from services.domain.errors import Invalid, Unavailable
from services.domain.instance import Power, State
from services.domain.kinds import ResourceKind
from services.domain.observation import ObservationOutcome
from services.domain.resources import Resources
from services.runtime.bus import connect
from tests.engines import nats_server, postgres
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
from tests.integration.conductor.test_flow import check_books
from tests.stores import CLOUD

Answer = TypeVar("Answer")

LARGE = Resources(100, 10_000, 1000)


async def built(made: Conductor, name: str, ids: tuple[str, str]) -> Seen:
    """An instance on h1, and what h1 says when its build fails."""
    accepted = await made.instances.create(asked(), new_instance(name, ids))
    await made.decider.decide([Decision(accepted.resource.id, 1, "h1", 1, {})])
    situation = (await made.store.situations_read([accepted.resource.id]))[accepted.resource.id]
    claim = situation.holder
    assert claim is not None
    return Seen(
        claim.instance_id, claim.epoch, "h1", claim.host_incarnation, int(name[1:]) + 1, 0,
        Power.OFF, absent=True, failure=("UNLUCKY", "no"),
    )  # fmt: skip


async def test_a_delete_and_a_failing_build_that_cross_end_in_deleted(place: Place) -> None:
    """Whichever is first, through two conductors, with a decision for the next attempt behind."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        await one.greeter.greet(hello("h1", LARGE))
        ids = await catalog(one)
        for n in range(20):
            failing = await built(one, f"n{n}", ids)
            instance_id = failing.instance_id
            late = [Decision(instance_id, attempt, "h1", 1, {}) for attempt in (1, 2, 2, 3)]
            _, outcomes, _ = await asyncio.gather(
                one.instances.delete(asked("delete_instance"), instance_id),
                two.observer.observe([failing]),
                two.decider.decide(late),
            )
            assert outcomes == [ObservationOutcome.APPLIED]
            await one.decider.decide(late)
            situation = (await one.store.situations_read([instance_id]))[instance_id]
            holder = situation.holder
            if holder is not None:
                # The decision for the next attempt was faster than the delete: its host removes it.
                gone = Seen(
                    instance_id, holder.epoch, "h1", holder.host_incarnation, 1, 0,
                    Power.OFF, absent=True,
                )  # fmt: skip
                assert await one.observer.observe([gone]) == [ObservationOutcome.APPLIED]
    assert place.sql(f"SELECT count(*) FROM instance WHERE state <> {State.DELETED.value}") == "0"
    assert place.sql("SELECT count(*) FROM operation WHERE NOT finished") == "0"
    assert place.sql("SELECT used_vcpus, claim_count FROM host") == "0|0"
    check_books(place)


async def test_a_decision_counts_once_and_only_for_its_attempt(place: Place) -> None:
    """Twice in a batch, twice at once, for an attempt that is over, after the end."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        await one.greeter.greet(hello("h1", LARGE))
        await one.greeter.greet(hello("h2", LARGE))
        ids = await catalog(one)
        failing = await built(one, "n0", ids)
        await one.observer.observe([failing])
        await one.decider.decide([Decision(failing.instance_id, 1, "h1", 1, {})])
        assert place.sql("SELECT count(*) FROM claim") == "0"
        second = Decision(failing.instance_id, 2, "h2", 1, {})
        refusal = Decision(failing.instance_id, 2, "", 1, {"up": 1})
        await asyncio.gather(
            one.decider.decide([second, second]), two.decider.decide([second, second])
        )
        await one.decider.decide([refusal])
        assert place.sql("SELECT host_id FROM claim") == "h2"
        assert place.sql("SELECT state, attempt FROM instance") == f"{State.BUILDING.value}|2"
        check_books(place)


async def test_an_image_that_is_deleted_while_it_is_used_is_used_to_the_end(place: Place) -> None:
    """A create that was accepted keeps its digest, its operation ends as ever; a later create is
    refused, and its replay as well as that of the first answers as before.
    """
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello("h1", LARGE))
        flavor_id, image_id = await catalog(made)
        requests = [asked() for _ in range(20)]
        creates = [
            made.instances.create(request, new_instance(f"n{n}", (flavor_id, image_id)))
            for n, request in enumerate(requests)
        ]
        admin = asked("delete_image", caller=Caller("root", "admin", cloud_admin=True))
        delete = made.catalog.delete(admin, ResourceKind.IMAGE, image_id)
        answers = await asyncio.gather(*creates[:10], delete, *creates[10:], return_exceptions=True)
        replays = await asyncio.gather(
            *(
                made.instances.create(r, new_instance(f"n{n}", (flavor_id, image_id)))
                for n, r in enumerate(requests)
            ),
            return_exceptions=True,
        )
        for answer, replay in zip(answers[:10] + answers[11:], replays, strict=True):
            if isinstance(answer, Accepted):
                assert isinstance(replay, Accepted)
                assert replay.resource.id == answer.resource.id
                wanted = (await made.store.situations_read([answer.resource.id])).popitem()[1]
                assert wanted.instance.wanted.image.digest == "a" * 64
            else:
                assert isinstance(answer, Invalid)
                assert answer.reason == "IMAGE_NOT_FOUND"
                assert isinstance(replay, Invalid)
        again = await made.catalog.delete(admin, ResourceKind.IMAGE, image_id)
        assert isinstance(answers[10], Accepted)
        assert again.operation.id == answers[10].operation.id
        check_books(place)


async def test_a_database_that_crashes_in_between_has_right_books(tmp_path: Path) -> None:
    """Creates, claims, observations and deletes go on over two crashes; what was answered is there,
    what was not is there once or not at all, and sums and counts are those of the claims.
    """
    with postgres(tmp_path / "pg") as server:
        await migrate(server.url(), CLOUD)
        store = PostgresStore(server.url())
        place = Place(server, store, "postgres")
        async with conductor(server.url(), Sent()) as made:
            await made.greeter.greet(hello("h1", LARGE))
            ids = await catalog(made)
            lives = [asyncio.create_task(_life(made, n, ids)) for n in range(40)]
            for _ in range(2):
                await asyncio.sleep(0.3)
                server.kill()
                await asyncio.to_thread(server.start)
            ends = await asyncio.gather(*lives)
        await store.close()
        assert ends.count("deleted") == 20
        assert place.sql("SELECT count(*) FROM instance WHERE deleted") == "20"
        assert place.sql("SELECT count(*) FROM instance") == "40"
        assert place.sql("SELECT used_vcpus, claim_count FROM host") == "20|20"
        check_books(place)


async def insist(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Asks again for as long as the database is away, with the same request."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.05)


async def _life(made: Conductor, n: int, ids: tuple[str, str]) -> str:
    request, delete = asked(), asked("delete_instance")
    await asyncio.sleep(n * 0.02)
    accepted = await insist(lambda: made.instances.create(request, new_instance(f"n{n}", ids)))
    instance_id = accepted.resource.id
    decision = Decision(instance_id, 1, "h1", 1, {})
    await insist(lambda: made.decider.decide([decision]))
    situation = (await insist(lambda: made.store.situations_read([instance_id])))[instance_id]
    claim = situation.holder
    assert claim is not None
    runs = Seen(instance_id, claim.epoch, "h1", 1, 1, 1, Power.RUNNING, absent=False)
    await insist(lambda: made.observer.observe([runs]))
    if n % 2:
        return "active"
    await insist(lambda: made.instances.delete(delete, instance_id))
    gone = Seen(instance_id, claim.epoch, "h1", 1, 2, 2, Power.OFF, absent=True)
    await insist(lambda: made.observer.observe([gone]))
    return "deleted"


async def test_a_message_that_the_bus_cannot_take_fails_no_work(tmp_path: Path) -> None:
    """It is dropped, and said in the log: rows say it again."""
    with nats_server(tmp_path / "nats") as server:
        bus = await connect(server.url, name="test", credential=("stead", "secret"))
        came: asyncio.Queue[bytes] = asyncio.Queue()
        await bus.subscribe("stead.x", came.put)
        await bus.publish("stead.x", b"x" * (2 << 20))
        await bus.publish("not a subject", b"")
        await bus.publish("stead.x", b"the next one")
        assert await asyncio.wait_for(came.get(), 60) == b"the next one"
        await bus.close()
        await bus.publish("stead.x", b"")
