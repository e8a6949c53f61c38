"""What the conductor says on the bus, as the others read it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from stead.internal.v1 import compute_pb2, resource_pb2, scheduler_pb2

from services.conductor.edges.bus import NatsBus
from services.conductor.flows.ports import CloudIdentity
from services.conductor.logic.items import Before, Record
from services.conductor.logic.steps import Command, Place
from services.domain.kinds import ClaimRole, ResourceKind
from services.domain.resources import QuotaAmounts
from services.domain.trace import Trace
from services.runtime import subjects
from services.runtime.bus import connect
from tests.engines import nats_server
from tests.stores import CLOUD
from tests.unit.conductor.situations import claim, instance

TRACE = Trace("req-7", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
PROJECT = Record(
    kind=ResourceKind.PROJECT,
    id="p",
    project_id="p",
    version=2,
    revision=9,
    epoch=0,
    body=b"new",
    deleted=False,
    public=False,
    before=Before(b"old", 4, 0),
    quota=(QuotaAmounts(5, -1, 6, -1), QuotaAmounts(1, 2, 3, 4)),
)


async def test_requests_commands_and_changes_say_all_that_others_need(tmp_path: Path) -> None:
    """The call that a wish came with; how long a guest has, and whether one on its way out is
    kept or erased; what was before a change, and from where on the log is whole.
    """
    with nats_server(tmp_path / "nats") as server:
        link = await connect(server.url, name="test", credential=("stead", "secret"))
        came: asyncio.Queue[bytes] = asyncio.Queue()
        for subject in (
            subjects.place(CLOUD), subjects.host_command(CLOUD, "h1"), subjects.feed(CLOUD),
        ):  # fmt: skip
            await link.subscribe(subject, came.put)
        bus = NatsBus(link, CloudIdentity(CLOUD, "history"))
        row = instance(version=1)
        row = replace(row, wanted=replace(row.wanted, grace_s=30, boot=2))

        async def heard() -> bytes:
            return await asyncio.wait_for(came.get(), 60)

        await bus.place([Place(row, TRACE), Place(row)], 7)
        traced, plain = scheduler_pb2.PlaceBatch.FromString(await heard()).requests
        assert (traced.trace.correlation_id, traced.trace.traceparent) == (
            TRACE.correlation_id, TRACE.traceparent,
        )  # fmt: skip
        assert traced.min_revision == 7
        assert not plain.HasField("trace")

        kept = replace(claim(row), role=ClaimRole.LEAVING)
        erased = replace(kept, discard=True)
        commands = [Command(row, claim(row), TRACE), Command(row, kept), Command(row, erased)]
        await bus.command("h1", 3, commands)
        batch = compute_pb2.CommandBatch.FromString(await heard())
        wanted, stopped, unwanted = batch.wanted
        assert wanted.trace.correlation_id == "req-7"
        assert (wanted.spec.grace_s, wanted.spec.boot, wanted.spec.run) == (30, 2, True)
        assert (stopped.spec.present, stopped.spec.run, stopped.spec.grace_s) == (True, False, 0)
        assert (unwanted.spec.present, unwanted.spec.run, unwanted.spec.grace_s) == (
            False,
            False,
            0,
        )
        assert [one.leaving for one in batch.wanted] == [False, True, False]

        await bus.feed([PROJECT], 9, compacted_revision=2)
        told = resource_pb2.FeedBatch.FromString(await heard())
        (change,) = told.changes
        assert (told.compacted_revision, told.head_revision) == (2, 9)
        assert (change.before.body, change.before.revision) == (b"old", 4)
        assert (change.quota.limits.instances, change.quota.used.disk_gib) == (5, 4)

        await bus.feed((), 12, compacted_revision=10)
        beat = resource_pb2.FeedBatch.FromString(await heard())
        assert (beat.head_revision, beat.compacted_revision, list(beat.changes)) == (12, 10, [])
        await link.close()
