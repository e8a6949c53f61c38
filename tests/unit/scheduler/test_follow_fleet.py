"""Goal: the fleet is loaded whole, then follows; trouble with the feed means loading again.

Method: a log in memory.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from services.domain.errors import Unavailable
from services.domain.resources import Resources
from services.runtime.clock import RealClock
from services.scheduler.flows.follow_fleet import FleetFollowing
from services.scheduler.flows.ports import ChangeBatch, HostPage
from services.scheduler.logic.changes import Change
from services.scheduler.logic.fleet import Fleet, HostRow
from tests.unit.scheduler import fleets


class Log:
    """Implements Rows; `between_pages` happens after the first page of a load."""

    def __init__(self, hosts: int) -> None:
        self.changes: list[Change] = []
        self.rows: dict[str, HostRow] = {}
        self.history_id = "one"
        self.kept_from = 1
        self.loads = 0
        self.failures = 0
        self.between_pages: Callable[[], None] = lambda: None
        for number in range(hosts):
            self.put(f"host-{number}")

    @property
    def head(self) -> int:
        return len(self.changes)

    def put(self, host_id: str, used: int = 0) -> None:
        row = fleets.row(host_id, revision=self.head + 1, used=Resources(used, 0, 0))
        self.rows[host_id] = row
        self.changes.append(Change(row.revision, host=row))

    def drop(self, host_id: str) -> None:
        del self.rows[host_id]
        self.changes.append(Change(self.head + 1, gone_host_id=host_id))

    async def host_page(self, after_id: str) -> HostPage:
        if self.failures:
            self.failures -= 1
            raise Unavailable("PEER_UNREACHABLE", "nobody there")
        if not after_id:
            self.loads += 1
        rows = sorted((r for r in self.rows.values() if r.id > after_id), key=lambda row: row.id)
        page = HostPage(rows[:2], self.head, more=len(rows) > 2)
        self.between_pages()
        self.between_pages = lambda: None
        return page

    async def change_range(self, after_revision: int, limit: int) -> ChangeBatch:
        kept = self.changes[max(after_revision, self.kept_from - 1) :]
        return ChangeBatch(self.history_id, self.head, kept[:limit])


@contextlib.asynccontextmanager
async def following(log: Log) -> AsyncIterator[tuple[Fleet, FleetFollowing]]:
    fleet = Fleet()
    follow = FleetFollowing(fleet, log, clock=RealClock())
    task = asyncio.create_task(follow.run(lambda: None))
    try:
        async with asyncio.timeout(60):
            await follow.loaded.wait()
        yield fleet, follow
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(12_000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen in a minute")


async def test_the_load_takes_all_pages_and_what_changed_between_them() -> None:
    log = Log(7)

    def change() -> None:
        log.drop("host-5")
        log.put("host-0", used=3)
        log.put("host-8")

    log.between_pages = change
    async with following(log) as (fleet, _):
        assert sorted(fleet.ids) == [
            "host-0",
            "host-1",
            "host-2",
            "host-3",
            "host-4",
            "host-6",
            "host-8",
        ]
        assert fleet.hosts.used[0, fleet.ids.index("host-0")] == 3
        assert fleet.revision == log.head


async def test_a_conductor_that_is_away_is_asked_again() -> None:
    log = Log(1)
    log.failures = 1
    async with following(log) as (fleet, _):
        assert list(fleet.ids) == ["host-0"]


async def test_a_heartbeat_ahead_of_the_fleet_makes_it_read_the_log() -> None:
    log = Log(1)
    async with following(log) as (fleet, follow):
        log.put("host-9")
        await follow.receive(ChangeBatch("one", log.head, []))
        await until(lambda: "host-9" in fleet.ids)
        assert log.loads == 1


async def test_a_log_that_does_not_reach_back_is_answered_by_a_new_load() -> None:
    log = Log(3)
    async with following(log) as (fleet, follow):
        log.drop("host-0")
        log.put("host-9")
        log.kept_from = log.head
        await follow.receive(ChangeBatch("one", log.head, []))
        await until(lambda: sorted(fleet.ids) == ["host-1", "host-2", "host-9"])
        assert log.loads == 2
        log.put("host-8")
        await follow.receive(ChangeBatch("one", log.head, log.changes[-1:]))
        await until(lambda: "host-8" in fleet.ids)


async def test_a_log_that_is_gone_altogether_is_answered_by_a_new_load() -> None:
    log = Log(3)
    async with following(log) as (fleet, follow):
        log.drop("host-0")
        log.kept_from = log.head + 1
        await follow.receive(ChangeBatch("one", log.head, []))
        await until(lambda: sorted(fleet.ids) == ["host-1", "host-2"])


async def test_another_history_is_answered_by_a_new_load() -> None:
    log = Log(2)
    async with following(log) as (fleet, follow):
        await follow.receive(ChangeBatch("one", log.head, []))
        log.history_id, log.changes, log.rows = "two", [], {}
        log.put("host-7")
        await follow.receive(ChangeBatch("two", log.head, []))
        await until(lambda: list(fleet.ids) == ["host-7"])
        assert fleet.revision == 1
