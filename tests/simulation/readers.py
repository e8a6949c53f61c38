"""Users of a simulated cloud who only read: lists page by page, waits for operations, and watches
of single ones, through whatever breaks.

Owns what may be told: lists as of one commit, operations whose end is their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.api.edges.public_messages import is_ended
from services.api.flows.list_rows import ListAsk, ListPage, list_rows
from services.api.flows.ports import Row
from services.api.flows.wait_operation import WaitAsk, wait_operation
from services.api.flows.watch_operation import watch_operation
from services.domain.errors import CloudError, Unavailable
from services.domain.kinds import ResourceKind
from tests.simulation.clients import Client, Work, caller_of
from tests.simulation.parts import PAGE_KEY, ApiDoor
from tests.simulation.world import World

LOOK_S = 5.0
PAGES_MAX = 200
WATCH_S = 20.0
KINDS = (ResourceKind.INSTANCE, ResourceKind.OPERATION, ResourceKind.IMAGE, ResourceKind.KEY_PAIR)
REASONS = frozenset("REVISION_COMPACTED WATCH_TOO_SLOW TOO_MANY_WATCHES LANE_FULL".split())


class Reader(Client):
    """One user of a project."""

    def __init__(self, world: World, work: Work, project_id: str) -> None:
        super().__init__(world, work, f"reader of {project_id}", caller_of(project_id))
        self._project_id = project_id

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / LOOK_S))
            read = self.rng.choice([self._list, self._wait, self._watch])
            try:
                await read()
            except CloudError as error:
                if not isinstance(error, Unavailable) and error.reason not in REASONS:
                    self._wrong(f"{self._name} was refused: {error!r}")

    async def _list(self) -> None:
        """All pages, each from any api."""
        kind, size = self.rng.choice(KINDS), self.rng.choice([2, 10, 50])
        rows, token = list[Row](), ""
        for _ in range(PAGES_MAX):
            page = await self._page(ListAsk(kind, size, token))
            rows += page.rows
            token = page.next_page_token
            if not token:
                self._judge_list(kind, rows, page.revision)
                return

    async def _page(self, ask: ListAsk) -> ListPage:
        return await self._world.ask(
            self.rng.choice(self._world.apis),
            lambda door: list_rows(door.conductor, door.feed, self.caller, ask, page_key=PAGE_KEY),
        )

    def _judge_list(self, kind: ResourceKind, rows: list[Row], revision: int) -> None:
        """Against what stood at that commit, which only the harness knows."""
        kept = self._world.store.rows
        then = [kept.then(key, revision) for key in list(kept.histories) if key[0] is kind]
        shown = [one for one in then if one is not None and not one.deleted]
        its = {(r.id, r.version) for r in shown if r.public or r.project_id == self._project_id}
        told = [(row.id, row.version) for row in rows]
        if len(told) != len(its) or set(told) != its:
            self._wrong(f"{self._name} lists {told} at {revision}, not {sorted(its)}")

    async def _wait(self) -> None:
        operation_id, timeout_s = self._some_operation(), self.rng.uniform(0.1, 4.0)
        if not operation_id:
            return
        ask = WaitAsk(operation_id, timeout_s)
        row = await self._world.ask(
            self.rng.choice(self._world.apis),
            lambda door: wait_operation(
                door.conductor, door.feed.hub, self.caller, ask, is_ended=is_ended
            ),
        )
        self._judge_operation(row)

    async def _watch(self) -> None:
        operation_id, version = self._some_operation(), 0
        if not operation_id:
            return

        def watch(door: ApiDoor) -> AsyncGenerator[Row, None]:
            hub = door.feed.hub
            return watch_operation(
                door.conductor, hub, self.caller, operation_id, is_ended=is_ended
            )

        versions = self._world.stream(self.rng.choice(self._world.apis), watch, WATCH_S)
        async with aclosing(versions):
            async for row in versions:
                if row.version <= version:
                    self._wrong(f"{operation_id} is told in version {row.version} after {version}")
                version = row.version
                self._judge_operation(row)
                if is_ended(row):
                    return

    def _some_operation(self) -> str:
        """Known to the harness, which spares the user a list."""
        known = self._world.store.rows.operations.values()
        its = [one.row.id for one in known if one.row.project_id == self._project_id]
        return self.rng.choice(its[-8:]) if its else ""

    def _judge_operation(self, row: Row) -> None:
        now = self._world.store.rows.operations.get(row.id)
        ended = now is not None and now.row.finished and now.row.version == row.version
        if now is None or (is_ended(row) and not ended):
            self._wrong(f"{row.id} ended in version {row.version}, and is {now}")

    def _wrong(self, trouble: str) -> None:
        """A database that is set back knows nothing of what it told since."""
        if not self._world.shape.restored:
            self._work.troubles.append(trouble)
