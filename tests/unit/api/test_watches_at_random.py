"""Watches: a list and what comes after it are the state, whatever ring, replica or reader."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.flows.follow_feed import Feed
from services.api.flows.watch_rows import (
    Bookmark,
    Changed,
    Existing,
    Left,
    Run,
    SnapshotDone,
    WatchAsk,
    WatchEvent,
)
from services.api.logic.change import OVERHEAD_BYTES
from services.api.logic.filter import parse
from services.api.logic.row import Row
from services.domain.condition import Condition, all_hold
from services.domain.errors import (
    NoCapacity,
    OutOfRange,
)
from services.domain.kinds import ResourceKind
from tests.examples import examples
from tests.fakes.changelog import Changelog, fields_of, hear, replica
from tests.unit.api.watching import (
    HOST,
    INSTANCE,
    OPERATION,
    PATIENCE_S,
    following,
    watch_runs,
)


@dataclass
class Mirror:
    """A client: it keeps what it is told and goes on from its newest token."""

    conditions: tuple[Condition, ...]
    rows: dict[str, Row] = field(default_factory=dict)
    shown: list[tuple[str, int]] = field(default_factory=list)
    token: str = ""
    revision: int = 0
    begun_at: int = 0

    def take(self, event: WatchEvent) -> None:
        """Applies one event."""
        match event:
            case Existing():
                assert event.row.id not in self.rows
                self.rows[event.row.id] = event.row
                return
            case SnapshotDone():
                assert event.count == len(self.rows)
                self.begun_at = event.revision
            case Changed():
                assert event.revision == event.row.revision > self.revision
                self.shown.append(("changed", event.revision))
                if event.row.deleted:
                    self.rows.pop(event.row.id, None)
                else:
                    self.rows[event.row.id] = event.row
            case Left():
                assert event.revision == event.row.revision > self.revision
                self.shown.append(("left", event.revision))
                del self.rows[event.row.id]
            case Bookmark():
                assert event.revision >= self.revision
        # Within a run the token comes with the last event; until then the old one is good.
        self.token, self.revision = event.resume_token or self.token, event.revision

    def meets(self, body: bytes) -> bool:
        """Whether a version is one that it follows."""
        return all_hold(self.conditions, fields_of(INSTANCE, body).get)

    def check(self, changelog: Changelog) -> None:
        """It holds exactly what the log says, and was shown exactly what concerns it."""
        expected = {
            row.id: row.version
            for row in changelog.state_at(self.revision).values()
            if row.kind is INSTANCE and row.project_id == "p" and self.meets(row.body)
        }
        assert {row.id: row.version for row in self.rows.values()} == expected
        shown = []
        for row in changelog.log[self.begun_at : self.revision]:
            if row.kind is not INSTANCE or row.project_id != "p":
                continue
            matched = row.before is not None and self.meets(row.before.body)
            if self.meets(row.body) or (matched and row.deleted):
                shown.append(("changed", row.revision))
            elif matched:
                shown.append(("left", row.revision))
        assert self.shown == shown


@dataclass(frozen=True)
class Put:
    """A commit."""

    number: int
    name: str
    project: str
    deleted: bool
    kind: ResourceKind


@dataclass(frozen=True)
class Visit:
    """What happens until and while the client is at a replica: commits, `cut` leaves so many of the
    changes in the log, then so many runs are read, each of at most so many events, and commits come
    between them.
    """

    puts: list[Put]
    cut: int
    replica: int
    runs: int
    meanwhile: list[Put]
    events_max: int


PUTS = st.builds(
    Put,
    st.integers(0, 4),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["p", "p", "q"]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([INSTANCE, INSTANCE, INSTANCE, OPERATION, HOST, ResourceKind.IMAGE]),
)
VISITS = st.builds(
    Visit,
    st.lists(PUTS, max_size=12),
    st.sampled_from([0, 3, 10, 1000, 1000, 1000]),
    st.integers(0, 1),
    st.integers(0, 12),
    st.lists(PUTS, max_size=24),
    st.sampled_from([1, 1, 2, 3, 7, 256]),
)
FILTERS = st.sampled_from(["", 'name = "a"', 'name != "a"', 'name IN ("b", "c")'])


def put(changelog: Changelog, step: Put) -> None:
    """A commit, if there can be such a one."""
    row_id = f"{step.kind.name}-{step.project}-{step.number}"
    known = changelog.state_at(changelog.head).get(row_id)
    if known is None and any(row.id == row_id for row in changelog.log):
        return
    changelog.put(
        row_id,
        {"name": step.name},
        kind=step.kind,
        project_id=step.project,
        deleted=step.deleted and known is not None,
    )


@dataclass
class Client:
    """A mirror that goes from replica to replica."""

    changelog: Changelog
    feeds: list[Feed]
    mirror: Mirror
    text: str

    async def visit(self, visit: Visit) -> None:
        """Connects with what it has, reads so much, and goes away."""
        for step in visit.puts:
            put(self.changelog, step)
        self.changelog.compacted = max(self.changelog.compacted, self.changelog.head - visit.cut)
        feed = self.feeds[visit.replica]
        await hear(feed, self.changelog)
        meanwhile = list(visit.meanwhile)
        async with aclosing(self.stream(feed, visit.events_max)) as runs:
            for _ in range(visit.runs):
                if not await self.take(runs):
                    return
                for step in meanwhile[:6]:
                    put(self.changelog, step)
                    await hear(feed, self.changelog)
                del meanwhile[:6]

    async def catch_up(self, feed: Feed, events_max: int = 1) -> None:
        """Reads all there is."""
        await hear(feed, self.changelog)
        while True:
            async with aclosing(self.stream(feed, events_max)) as runs:
                while await self.take(runs):
                    if self.mirror.token and self.mirror.revision == self.changelog.head:
                        return

    def stream(self, feed: Feed, events_max: int) -> AsyncGenerator[Run, None]:
        """A watch that goes on where the mirror is."""
        if not self.mirror.token:
            self.mirror.rows, self.mirror.shown, self.mirror.revision = {}, [], 0
        ask = WatchAsk(INSTANCE, self.text, self.mirror.token, bookmark_s=0.005)
        return watch_runs(self.changelog, feed, replace(ask, events_max=events_max))

    async def take(self, runs: AsyncGenerator[Run, None]) -> bool:
        """Takes one run; False when the watch has ended, with what to go on with."""
        try:
            for event in await following(runs):
                self.mirror.take(event)
        except OutOfRange as gone:
            if int(gone.metadata["oldest_revision"]) <= self.mirror.revision:
                raise
            self.mirror.token = ""
            return False
        except NoCapacity as cut:
            self.mirror.token = cut.metadata["resume_token"]
            return False
        return True


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(VISITS, min_size=1, max_size=8), FILTERS, st.integers(1, 6), st.integers(1, 5))
def test_a_client_that_reconnects_at_random_through_two_replicas_holds_what_the_log_says(
    visits: list[Visit], text: str, ring: int, stretch: int
) -> None:
    """One replica keeps a handful of changes, the other many; the log is cut at random and is read
    in stretches; the client is quick or slow.
    """

    async def follow() -> None:
        changelog = Changelog()
        changelog.stretch_max = stretch
        conditions = parse(text, INSTANCE)
        assert isinstance(conditions, tuple)
        async with AsyncExitStack() as stack:
            feeds = [
                await stack.enter_async_context(replica(changelog, bytes_max=size))
                for size in (ring * (OVERHEAD_BYTES + 60), 1 << 20)
            ]
            client = Client(changelog, feeds, Mirror(conditions), text)
            await client.catch_up(feeds[0])
            for visit in visits:
                await client.visit(visit)
            for feed, events_max in zip(feeds, (1, 5), strict=True):
                await client.catch_up(feed, events_max)
                client.mirror.check(changelog)

    asyncio.run(asyncio.wait_for(follow(), PATIENCE_S))
