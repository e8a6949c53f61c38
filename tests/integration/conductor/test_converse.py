"""The servicer as its callers meet it: conversations, deadlines, pages, the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc, resource_pb2
from stead.v1 import instance_pb2

from services.conductor.edges.servicer import ConductorServicer
from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.logic.items import Item, Outcome
from services.domain.errors import Unavailable
from services.runtime import rpc
from services.runtime.ids import new_id
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Sent, asked, catalog, conductor, hello, new_instance
from tests.integration.conductor.wishes import ME, mutation, prepared

Request = conductor_pb2.ConverseRequest


@contextlib.asynccontextmanager
async def served(
    servicer: ConductorServicer, folder: Path
) -> AsyncIterator[conductor_pb2_grpc.ConductorServiceAsyncStub]:
    """A stub for the servicer over a socket."""
    server, target = rpc.server(), f"unix:{folder}/c.sock"
    conductor_pb2_grpc.add_ConductorServiceServicer_to_server(servicer, server)
    server.add_insecure_port(target)
    await server.start()
    channel = rpc.channel(target)
    try:
        yield conductor_pb2_grpc.ConductorServiceStub(channel)
    finally:
        await channel.close()
        await server.stop(0)


class Slow(PostgresStore):
    """A store whose commits wait until the test lets them go."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def items_commit(self, items: Sequence[Item]) -> list[Outcome]:
        self.asked.set()
        await self.go.wait()
        return await super().items_commit(items)


def read_of(instance_id: str) -> conductor_pb2.ReadRequest:
    query = conductor_pb2.Query(caller=ME, kind=resource_pb2.RESOURCE_KIND_INSTANCE, id=instance_id)
    return conductor_pb2.ReadRequest(queries=[query])


def create_of(name: str, ids: tuple[str, str], **more: Any) -> conductor_pb2.AcceptRequest:
    wish = mutation(
        "create_instance",
        instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=name, flavor_id=ids[0], image_id=ids[1]
        ),
    )
    for field, value in more.items():
        setattr(wish, field, value)
    return conductor_pb2.AcceptRequest(mutations=[wish])


async def test_rounds_of_every_kind_are_answered_as_the_unary_calls_are(
    place: Place, tmp_path: Path
) -> None:
    async with (
        conductor(place.url, Sent()) as made,
        served(made.servicer(), tmp_path) as stub,
    ):
        ground = await prepared(made)
        claim = (await made.store.situations_read([ground.active_id]))[ground.active_id].claims[0]
        accept = create_of("n", (ground.flavor_id, ground.image_id))
        observation = compute_pb2.Observation(
            sequence=1, instance_id=ground.active_id, epoch=claim.epoch
        )
        observe = conductor_pb2.ObserveRequest(
            observations=[
                conductor_pb2.HostObservation(host_id="h1", incarnation=1, observation=observation)
            ]
        )
        beat = conductor_pb2.BeatRequest(
            beats=[conductor_pb2.HostBeat(host_id="h1", incarnation=1)]
        )
        read = read_of(ground.stopped_id)
        stream = stub.Converse()
        rounds = [
            Request(number=10, accept=accept), Request(number=11, read=read),
            Request(number=12, observe=observe), Request(number=13, beat=beat),
            Request(number=14),
        ]  # fmt: skip
        for round_ in rounds:
            await stream.write(round_)
        await stream.done_writing()
        answers = {answer.number: answer async for answer in stream}
        assert set(answers) == {10, 11, 12, 13, 14}
        # Sent again by the unary calls: the same request, question, observation and sign of life.
        assert answers[10].accept == await stub.Accept(accept)
        assert answers[11].read.results[0].resources == (await stub.Read(read)).results[0].resources
        assert answers[12].observe == await stub.Observe(observe)
        assert answers[13].beat == await stub.Beat(beat)
        assert answers[14].error.reason == "ROUND_MISSING"


async def test_questions_are_answered_while_a_commit_is_slow(place: Place, tmp_path: Path) -> None:
    """On one stream, which ends well when its conductor does: what was begun is answered."""
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        known = await made.instances.create(asked(), new_instance("known", ids))
        slow = Slow(place.url)
        made.committer._store = slow
        servicer = made.servicer()
        async with served(servicer, tmp_path) as stub, asyncio.timeout(60):
            stream = stub.Converse()
            await stream.write(Request(number=1, accept=create_of("n", ids)))
            await slow.asked.wait()
            await stream.write(Request(number=2, read=read_of(known.resource.id)))
            answer = await stream.read()
            assert isinstance(answer, conductor_pb2.ConverseResponse)
            assert answer.number == 2
            servicer.close()
            slow.go.set()
            last = await stream.read()
            assert isinstance(last, conductor_pb2.ConverseResponse)
            assert last.accept.results[0].resource.id
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
        await slow.close()


async def test_a_wish_whose_caller_has_gone_is_not_committed(place: Place) -> None:
    """Its time passed while it waited for its turn; what was sent before is waited for."""
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        slow = Slow(place.url)
        made.committer._store = slow
        servicer = made.servicer()
        first = asyncio.create_task(
            servicer.Accept(create_of("first", ids, time_left_ms=5_000), None)
        )
        await slow.asked.wait()
        late = asyncio.create_task(servicer.Accept(create_of("late", ids, time_left_ms=20), None))
        patient = asyncio.create_task(
            servicer.Accept(create_of("patient", ids, time_left_ms=60_000), None)
        )
        await asyncio.sleep(0.1)
        slow.go.set()
        async with asyncio.timeout(60):
            (told,) = (await late).results
            assert told.error.reason == "DEADLINE_PASSED"
            assert told.error.code == rpc.code_of(Unavailable("X", ""))
            for task in (first, patient):
                assert (await task).results[0].resource.id
        assert sorted(place.sql("SELECT name FROM instance").split()) == ["first", "patient"]
        await slow.close()


async def test_what_hosts_saw_goes_before_what_is_new_and_removals_before_creations(
    place: Place,
) -> None:
    """Of what waits while a round is in flight. MECHANICS A4."""
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        slow = Slow(place.url)
        order: list[str] = []

        async def noted(items: Sequence[Item]) -> list[Outcome]:
            outcomes = await Slow.items_commit(slow, items)
            order.extend(_kind(item) for item in items)
            return outcomes

        made.committer._store = slow
        slow.items_commit = noted  # type: ignore[method-assign]  # the test listens
        ids = (ground.flavor_id, ground.image_id)
        tasks = [asyncio.create_task(made.instances.create(asked(), new_instance("a", ids)))]
        await slow.asked.wait()
        tasks.append(asyncio.create_task(made.instances.create(asked(), new_instance("b", ids))))
        await asyncio.sleep(0.1)
        delete = made.instances.delete(asked("delete_instance"), ground.active_id)
        tasks.append(asyncio.create_task(delete))
        await asyncio.sleep(0.1)
        tasks.append(asyncio.create_task(made.greeter.greet(hello("h2"))))  # type: ignore[arg-type]  # tasks of any kind
        await asyncio.sleep(0.1)
        slow.go.set()
        await asyncio.gather(*tasks)
        assert order[:4] == ["new", "host", "removal", "new"]
        await slow.close()


def _kind(item: Item) -> str:
    if item.host is not None:
        return "host"
    if item.instance is not None and not item.instance.wanted.present:
        return "removal"
    return "new"


async def test_lists_are_filtered_ordered_and_pinned(place: Place) -> None:
    """Page by page, true to the revision of the first whatever happens meanwhile."""
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        for name in ("c", "a", "e", "b", "d"):
            labels = {"odd": "yes"} if name in "ace" else {}
            await made.instances.create(asked(), replace(new_instance(name, ids), labels=labels))
        servicer = made.servicer()
        names: list[str] = []
        query = conductor_pb2.Query(
            caller=ME,
            kind=resource_pb2.RESOURCE_KIND_INSTANCE,
            project_id="p",
            limit=2,
            order=conductor_pb2.LIST_ORDER_NAME,
            descending=True,
            conditions=[conductor_pb2.Condition(field="labels.odd", values=["yes"])],
        )
        while True:
            request = conductor_pb2.ReadRequest(queries=[query])
            (page,) = (await servicer.Read(request, None)).results
            assert not page.HasField("error"), page.error
            names += [instance_pb2.Instance.FromString(r.body).name for r in page.resources]
            if not page.more:
                break
            query.after_id, query.after_key = page.last_id, page.last_key
            query.pinned_revision = page.revision
            await made.instances.create(
                asked(), replace(new_instance("0", ids), name=new_id(), labels={"odd": "yes"})
            )
        assert names == ["e", "c", "a"]
        bad = conductor_pb2.Query(caller=ME, kind=resource_pb2.RESOURCE_KIND_INSTANCE, limit=2)
        bad.conditions.add(field="no such field", values=["x"])
        both = conductor_pb2.ReadRequest(queries=[bad, read_of(new_id()).queries[0]])
        first, second = (await servicer.Read(both, None)).results
        assert first.error.reason == "FILTER_INVALID"
        assert not second.HasField("error")


async def test_the_log_tells_each_change_with_what_was_before(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        servicer = made.servicer()
        request = conductor_pb2.ReadChangesRequest(after_revision=0, limit=1000)
        batch = (await servicer.ReadChanges(request, None)).batch
        assert [c.revision for c in batch.changes] == list(range(1, batch.head_revision + 1))
        newest: dict[str, resource_pb2.Resource] = {}
        for change in batch.changes:
            known = newest.get(change.id)
            assert change.HasField("before") == (known is not None)
            if known is not None:
                assert change.before.body == known.body
                assert change.before.revision == known.revision
                assert change.before.epoch == known.epoch
                assert change.before.ledger == known.ledger
            newest[change.id] = change
        assert newest["known"].kind == resource_pb2.RESOURCE_KIND_PROJECT
        assert newest["known"].HasField("quota")
        assert newest[ground.key_pair_id].kind == resource_pb2.RESOURCE_KIND_KEY_PAIR


@pytest.mark.parametrize("wish", [conductor_pb2.Mutation(), conductor_pb2.Mutation(caller=ME)])
async def test_a_mutation_that_says_nothing_is_refused(
    place: Place, wish: conductor_pb2.Mutation
) -> None:
    async with conductor(place.url, Sent()) as made:
        request = conductor_pb2.AcceptRequest(mutations=[wish])
        (result,) = (await made.servicer().Accept(request, None)).results
        assert result.error.reason == "WISH_MISSING"
