"""A client that goes from one replica of api to the other holds exactly what the change log says.

Goal: nothing is lost, repeated or shown wrongly, whatever filter, ring, reader and replica. Method:
two apis with shared keys over the real conductor, PostgreSQL and bus; random mutations through
either; several clients that reconnect at random; the truth is the log as the conductor reads it.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from stead.internal.v1 import resource_pb2
from stead.v1 import flavor_pb2, instance_pb2, operation_pb2

from services.api.edges.row_fields import fields_of
from services.api.logic.filter import parse
from services.domain.condition import all_hold
from services.domain.kinds import ResourceKind
from tests.integration.api.cloud import Refusal, User, new_id, refusal
from tests.integration.api.replicas import Replicas, replicas
from tests.integration.api.uploads import imported

INSTANCE = ResourceKind.INSTANCE
PATIENCE_S = 60.0
STEPS = 150


@pytest_asyncio.fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    async with replicas(tmp_path_factory.mktemp("two")) as running:
        yield running


@dataclass
class Mirror:
    """A client: what it holds, what it was shown since its snapshot, and where it goes on."""

    text: str
    rows: dict[str, instance_pb2.Instance] = field(default_factory=dict)
    shown: list[tuple[str, int]] = field(default_factory=list)
    token: str = ""
    begun_at: int = 0
    revision: int = 0

    def take(self, message: instance_pb2.WatchInstancesResponse) -> None:
        """Applies one event."""
        event = message.WhichOneof("event")
        if event == "existing":
            self.rows[message.existing.id] = message.existing
            return
        if event == "snapshot_done":
            assert message.snapshot_done.count == len(self.rows)
            self.begun_at = message.revision
        elif event in ("change", "left"):
            instance = getattr(message, event).instance
            assert message.revision == instance.revision > self.revision
            self.shown.append((event, message.revision))
            if event == "left" or instance.state == instance_pb2.INSTANCE_STATE_DELETED:
                self.rows.pop(instance.id, None)
            else:
                self.rows[instance.id] = instance
        # Of several events in one message the last one has the token.
        self.token, self.revision = message.resume_token or self.token, message.revision

    async def read(self, user: User, count: int, upto: int = 0, events_max: int = 0) -> None:
        """Connects with what it has, reads so many messages or up to a revision, goes away."""
        if not self.token:
            self.rows, self.shown = {}, []
        stream = user.WatchInstances(
            instance_pb2.WatchInstancesRequest(
                filter=self.text,
                resume_token=self.token,
                bookmark_interval=Duration(seconds=1),
                events_max=events_max,
            )
        )
        try:
            while count > 0 or not self.token or self.revision < upto:
                message = await asyncio.wait_for(stream.read(), PATIENCE_S)
                assert message is not grpc.aio.EOF
                assert len(message.more) < max(1, events_max)
                assert not (message.more and message.resume_token)
                for event in (message, *message.more):
                    assert event is message or not event.more
                    self.take(event)
                count -= 1
        except grpc.aio.AioRpcError as error:
            refused = Refusal(error)
            assert refused.reason == "WATCH_TOO_SLOW", refused.reason
            self.token = refused.metadata["resume_token"]
        finally:
            stream.cancel()

    def check(self, log: list[resource_pb2.Resource], project_id: str) -> None:
        """It holds and was shown exactly what the log says."""
        conditions = parse(self.text, INSTANCE)
        assert isinstance(conditions, tuple)

        def meets(body: bytes) -> bool:
            return all_hold(conditions, fields_of(INSTANCE, body).get)

        state: dict[str, int] = {}
        shown = []
        for change in log[: self.revision]:
            if change.kind != INSTANCE.value or change.project_id != project_id:
                continue
            now = meets(change.body)
            before = change.HasField("before") and meets(change.before.body)
            state.pop(change.id, None)
            if now and not change.deleted:
                state[change.id] = change.version
            if change.revision > self.begun_at and (now or before):
                event = "change" if now or change.deleted else "left"
                shown.append((event, change.revision))
        assert {row.id: row.version for row in self.rows.values()} == state
        assert self.shown == shown


class Writer:
    """Makes, changes and deletes instances through any replica."""

    def __init__(self, users: list[User], chance: random.Random, wished: dict[str, Any]) -> None:
        self.users = users
        self.chance = chance
        self.wished = wished
        self.living: list[str] = []

    async def step(self) -> None:
        """One mutation."""
        user = self.chance.choice(self.users)
        kind = self.chance.random()
        labels = {"tier": self.chance.choice(["web", "db"])}
        if kind < 0.5 or not self.living:
            request = instance_pb2.CreateInstanceRequest(
                request_id=new_id(), name=f"i-{new_id()}", labels=labels, **self.wished
            )
            self.living.append((await user.CreateInstance(request)).instance.id)
        elif kind < 0.8:
            changed = instance_pb2.UpdateInstanceRequest(
                request_id=new_id(),
                id=self.chance.choice(self.living),
                labels=labels,
                update_mask=FieldMask(paths=["labels"]),
            )
            await user.UpdateInstance(changed)
        else:
            gone = self.living.pop(self.chance.randrange(len(self.living)))
            await user.DeleteInstance(
                instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=gone)
            )


async def wished(two: Replicas, project: str) -> dict[str, Any]:
    """What an instance is made from."""
    request = flavor_pb2.CreateFlavorRequest(
        request_id=new_id(), name=f"f-{new_id()}", vcpus=1, memory_mib=64, disk_gib=1
    )
    made = (await two.apis[0].admin().CreateFlavor(request)).flavor
    image = await imported(two.apis[0].user(project, "member"))
    return {"flavor_id": made.id, "image_id": image.id}


@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_that_reconnect_at_random_hold_what_the_log_says(
    two: Replicas, seed: int
) -> None:
    project = f"random-{seed}"
    users = [api.user(project, "member") for api in two.apis]
    chance = random.Random(seed)
    writer = Writer(users, chance, await wished(two, project))
    mirrors = [
        Mirror(text)
        for text in ("", 'labels.tier = "web"', 'labels.tier != "web" AND task != "NONE"')
    ]

    async def write() -> None:
        for _ in range(STEPS):
            await writer.step()

    async def follow(mirror: Mirror) -> None:
        while not writing.done():
            most = chance.choice([0, 1, 2, 5, 256])
            await mirror.read(chance.choice(users), chance.randrange(1, 20), events_max=most)
            await asyncio.sleep(chance.random() / 20)

    writing = asyncio.ensure_future(write())
    await asyncio.wait_for(
        asyncio.gather(writing, *(follow(mirror) for mirror in mirrors)), 3 * PATIENCE_S
    )
    log = await two.log()
    for mirror in mirrors:
        for user in users:
            while not mirror.token or mirror.revision < len(log):
                await mirror.read(user, 0, upto=len(log))
        mirror.check(log, project)


async def test_pages_and_what_comes_after_them_are_the_state(two: Replicas) -> None:
    """Pages of one list come from both replicas while others write; a watch goes on from it."""
    project = "paged"
    users = [api.user(project, "member") for api in two.apis]
    chance = random.Random(3)
    writer = Writer(users, chance, await wished(two, project))
    for _ in range(30):
        await writer.step()
    mirror = Mirror('labels.tier = "web"')
    ask = instance_pb2.ListInstancesRequest(page_size=3, filter=mirror.text, order_by="name desc")
    names = []
    while True:
        page = await chance.choice(users).ListInstances(ask)
        mirror.rows |= {row.id: row for row in page.instances}
        names += [row.name for row in page.instances]
        assert mirror.begun_at in (0, page.revision)
        mirror.begun_at = mirror.revision = page.revision
        if not page.next_page_token:
            break
        ask.page_token = page.next_page_token
        for _ in range(3):
            await writer.step()
    assert names == sorted(names, reverse=True)
    mirror.token = page.resume_token
    mirror.check(await two.log(), project)
    log = await two.log()
    while mirror.revision < len(log):
        await mirror.read(chance.choice(users), 0, upto=len(log))
    mirror.check(log, project)


async def test_a_replica_that_was_away_serves_old_tokens_from_the_log(two: Replicas) -> None:
    project = "away"
    users = [api.user(project, "member") for api in two.apis]
    writer = Writer(users[:1], random.Random(4), await wished(two, project))
    mirror = Mirror("")
    await mirror.read(users[1], 0)
    await two.apis[1].end_api()
    for _ in range(40):
        await writer.step()
    await two.apis[1].start_api()
    await two.apis[1].until_ready()
    log = await two.log()
    while mirror.revision < len(log):
        await mirror.read(users[1], 0, upto=len(log))
    mirror.check(log, project)
    assert len(mirror.shown) >= 40


async def test_a_read_after_a_write_at_the_other_replica_sees_it(two: Replicas) -> None:
    project = "strong"
    users = [api.user(project, "member") for api in two.apis]
    writer = Writer(users[:1], random.Random(5), await wished(two, project))
    for _ in range(20):
        await writer.step()
        listed = await users[1].ListInstances(instance_pb2.ListInstancesRequest())
        assert {row.id for row in listed.instances} >= set(writer.living)


async def test_tokens_and_operations_go_from_replica_to_replica(two: Replicas) -> None:
    project = "handed"
    users: list[Any] = [api.user(project, "member") for api in two.apis]
    asked = operation_pb2.WatchOperationsRequest(
        filter='action = "CREATE_INSTANCE"', bookmark_interval=Duration(seconds=1)
    )
    stream = users[0].WatchOperations(asked)
    done = await stream.read()
    assert done.snapshot_done.count == 0
    stream.cancel()
    request = instance_pb2.CreateInstanceRequest(
        request_id=new_id(), name="handed", **await wished(two, project)
    )
    answer = await users[0].CreateInstance(request)
    asked.resume_token = done.resume_token
    stream = users[1].WatchOperations(asked)
    change = await stream.read()
    assert change.change.id == answer.operation.id
    stream.cancel()
    cancel = operation_pb2.CancelOperationRequest(request_id=new_id(), id=answer.operation.id)
    one = users[0].WatchOperation(operation_pb2.WatchOperationRequest(id=answer.operation.id))
    await one.read()
    await users[1].CancelOperation(cancel)
    last = (await one.read()).operation
    assert last.state == operation_pb2.OPERATION_STATE_CANCELLED
    assert await one.read() is grpc.aio.EOF
    stranger = two.apis[1].user(project, "member", sub="somebody-else")
    refused = await refusal(stranger.WatchOperations(asked))
    assert refused.reason == "RESUME_TOKEN_INVALID"
