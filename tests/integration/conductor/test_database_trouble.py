"""Whatever PostgreSQL does to the conductor: what is safe is tried again, the rest is UNAVAILABLE
with a delay, nothing is there twice or half, and everything goes on by itself. docs/troubles.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.domain.errors import Unavailable
from tests.engines import Postgres, postgres
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import (
    Conductor,
    Sent,
    asked,
    catalog,
    conductor,
    new_instance,
)
from tests.integration.conductor.slowed import Slowed, slowed
from tests.integration.conductor.test_flow import check_books
from tests.stores import new_store

MANY = 20
COMMITS = "application_name = 'stead-conductor' AND query LIKE '%commit_items%'"


@dataclass
class Bench:
    """A conductor at work, the server under it, and rivals for its rows."""

    made: Conductor
    place: Place
    ids: tuple[str, str]
    stack: contextlib.AsyncExitStack

    async def create(self, name: str, request_id: str = "") -> str:
        """An accepted instance's id."""
        wish = asked(request_id=request_id)
        return (await self.made.instances.create(wish, new_instance(name, self.ids))).resource.id

    async def create_many(self) -> None:
        """Each is there once, under the id that its caller was given."""
        ids = await asyncio.gather(*(self.create(f"many-{n}") for n in range(MANY)))
        there = self.place.sql("SELECT id FROM instance WHERE name LIKE 'many-%'").split()
        assert sorted(there) == sorted(ids)

    async def refused(self, name: str) -> None:
        """A create is UNAVAILABLE, and says when to ask again."""
        with pytest.raises(Unavailable) as refusal:
            await self.create(name)
        assert refusal.value.reason == "DATABASE_UNAVAILABLE"
        assert refusal.value.retry_after_s

    async def created_again(self, name: str) -> None:
        """As a client does: asked again with the same request id until it is answered; once."""
        wish = asked()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(Unavailable):
                    await self.made.instances.create(wish, new_instance(name, self.ids))
                    break
                await asyncio.sleep(0.05)
        assert self.place.sql(f"SELECT count(*) FROM instance WHERE name = '{name}'") == "1"

    async def rival(self) -> asyncpg.Connection[asyncpg.Record]:
        """A session of somebody else's."""
        made = await asyncpg.connect(self.place.url)
        self.stack.callback(made.terminate)
        return made

    async def held(self, sql: str) -> asyncpg.Connection[asyncpg.Record]:
        """A rival that has run a statement and does not end its transaction."""
        rival = await self.rival()
        await rival.execute("BEGIN")
        await rival.execute(sql)
        return rival

    async def waiting(self, watcher: asyncpg.Connection[asyncpg.Record]) -> int:
        """The process of the server in which a commit waits for a lock."""
        async with asyncio.timeout(60):
            while True:
                pid = await watcher.fetchval(
                    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    f" AND datname = current_database() AND {COMMITS}"
                )
                if pid:
                    return int(pid)
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One that may be killed, stopped and starved."""
    with postgres(tmp_path_factory.mktemp("pg")) as running:
        yield running


@pytest.fixture
async def bench(server: Postgres) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        store, name = await stack.enter_async_context(new_store(server))
        place = Place(server, store, name)
        made = await stack.enter_async_context(conductor(place.url, Sent()))
        bench = Bench(made, place, await catalog(made), stack)
        await bench.create("first")
        yield bench
        check_books(place)


async def test_a_restart_of_the_server_is_not_noticed(bench: Bench) -> None:
    creating = asyncio.create_task(bench.create_many())
    await asyncio.to_thread(bench.place.server.kill)
    await asyncio.to_thread(bench.place.server.start)
    await creating


async def test_while_the_server_is_away_everybody_is_refused_at_once(bench: Bench) -> None:
    """Nobody waits for it: hundreds are refused one after another."""
    bench.place.server.kill()
    async with asyncio.timeout(60):
        for n in range(300):
            await bench.refused(f"refused-{n}")
    bench.place.server.start()
    await bench.created_again("back")
    assert bench.place.sql("SELECT count(*) FROM instance WHERE name LIKE 'refused%'") == "0"


async def test_a_server_that_takes_connections_and_never_answers_keeps_nobody_waiting(
    bench: Bench,
) -> None:
    """As with a machine that swaps, or a disk that hangs: every process of it stands still."""
    pids = family(bench.place.server.process.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            for n in range(300):
                await bench.refused(f"refused-{n}")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await bench.created_again("back")


@contextlib.asynccontextmanager
async def by_a_slow_way(bench: Bench) -> AsyncIterator[tuple[Bench, Slowed]]:
    """Another conductor on the same database."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stead-")))
        way = await stack.enter_async_context(slowed(folder / "way", bench.place.server.folder))
        url = f"postgresql://stead@/{bench.place.database}?host={folder / 'way'}"
        made = await stack.enter_async_context(conductor(url, Sent()))
        yield Bench(made, bench.place, bench.ids, stack), way


async def test_ten_seconds_of_latency_are_an_outage_and_no_more(bench: Bench) -> None:
    async with by_a_slow_way(bench) as (slow, way):
        await slow.create("quick")
        way.delay_s = 10.0
        for n in range(300):
            await slow.refused(f"refused-{n}")
        way.delay_s = 0.0
        await slow.created_again("back")


async def test_a_commit_that_arrives_when_it_was_done_again_changes_nothing(bench: Bench) -> None:
    """It hung on its way, its sender gave up, the caller asked again."""
    async with by_a_slow_way(bench) as (slow, way):
        wish = asked()
        way.mark = b"delayed"
        with pytest.raises(Unavailable):
            await slow.create("delayed", wish.request_id)
        assert way.held.is_set()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(Unavailable):
                    first = await slow.create("delayed", wish.request_id)
                    break
                await asyncio.sleep(0.05)
        way.release.set()
        async with asyncio.timeout(60):
            await way.answered.wait()
        assert bench.place.sql("SELECT id FROM instance WHERE name = 'delayed'") == first


def family(pid: int) -> list[int]:
    """A process and its children, which no other process may be among."""
    import psutil

    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


async def test_sessions_that_an_admin_ends_are_made_again(bench: Bench) -> None:
    """57P01, in the middle of commits, again and again."""
    rival = await bench.rival()
    creating = asyncio.create_task(bench.create_many())
    for _ in range(10):
        await rival.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'stead-conductor' AND datname = current_database()"
        )
        await asyncio.sleep(0.02)
    await creating


async def test_a_commit_that_is_cancelled_is_tried_again(bench: Bench) -> None:
    """57014, as a statement timeout gives it too."""
    rival = await bench.held("SELECT 1 FROM counter FOR UPDATE")
    watcher = await bench.rival()
    creating = asyncio.create_task(bench.create_many())
    first = await bench.waiting(watcher)
    await watcher.execute("SELECT pg_cancel_backend($1)", first)
    await rival.execute("ROLLBACK")
    await creating


async def test_a_row_that_another_holds_is_waited_for_and_not_for_ever(bench: Bench) -> None:
    """55P03: refused after two tries, and there when it is asked again."""
    rival = await bench.held("SELECT 1 FROM counter FOR UPDATE")
    await bench.refused("held")
    await rival.execute("ROLLBACK")
    await bench.created_again("held")


async def test_a_deadlock_is_tried_again(bench: Bench) -> None:
    """40P01: a rival takes the counter first and the project after it, and is the more patient."""
    rival = await bench.rival()
    watcher = await bench.rival()
    await rival.execute("SET deadlock_timeout = '60s'")
    await rival.execute("BEGIN")
    await rival.execute("SELECT 1 FROM counter FOR UPDATE")
    creating = asyncio.create_task(bench.create_many())
    await bench.waiting(watcher)
    await rival.execute("SELECT 1 FROM project WHERE id = 'p' FOR UPDATE")
    await rival.execute("COMMIT")
    await creating
    assert int(bench.place.sql(DEADLOCKS)) > 0


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


async def test_a_serialization_failure_is_tried_again(bench: Bench) -> None:
    """40001, where somebody made transactions stricter than they have to be."""
    database = bench.place.database
    bench.place.sql(f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    bench.place.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'stead-conductor' AND datname = current_database()"
    )
    rival = await bench.held("UPDATE counter SET revision = revision")
    watcher = await bench.rival()
    creating = asyncio.create_task(bench.create_many())
    await bench.waiting(watcher)
    await rival.execute("COMMIT")
    await creating


async def test_without_a_free_connection_it_is_refused_until_one_is_free(bench: Bench) -> None:
    """53300."""
    await bench.made.store.close()
    rivals: list[Any] = []
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while True:
            rivals.append(await bench.rival())
    await bench.refused("crowded")
    for rival in rivals:
        rival.terminate()
    await bench.created_again("crowded")


async def test_a_server_that_may_only_be_read_is_not_the_one(bench: Bench) -> None:
    """25006, as after a failover to a standby that nobody promoted."""
    await bench.create("before")
    await asyncio.to_thread(read_only, bench.place, "on")
    try:
        for n in range(3):
            await bench.refused(f"refused-{n}")
    finally:
        await asyncio.to_thread(read_only, bench.place, "off")
    await bench.created_again("back")


def read_only(place: Place, value: str) -> None:
    """As all sessions see it from their next statement on."""
    place.sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    place.sql("SELECT pg_reload_conf()")
    while place.sql("SHOW default_transaction_read_only") != value:
        pass


@pytest.mark.parametrize("code", ["53100", "53200", "58030"])
async def test_a_server_without_means_is_believed_at_once(bench: Bench, code: str) -> None:
    """Disk full, out of memory, a broken disk, as the server says them while it writes."""
    bench.place.sql(
        "CREATE FUNCTION no_means() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$;"
        "CREATE TRIGGER no_means BEFORE INSERT ON instance EXECUTE FUNCTION no_means()"
    )
    async with asyncio.timeout(60):
        for n in range(100):
            await bench.refused(f"refused-{n}")
    # What needs no room goes on.
    assert await bench.made.store.hosts_read(["h1"]) == {}
    bench.place.sql("DROP TRIGGER no_means ON instance")
    await bench.create("roomy")
