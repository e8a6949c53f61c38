"""Reads records on a caller's behalf: rows of other projects do not exist for it.

Owns two lanes, so that nobody who looks at one thing waits for another's lists. Does not own which
connection they go by (the store).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.conductor.flows.ports import Bodies, Page, Query, Store
from services.conductor.logic.rows import Caller
from services.domain.errors import CloudError, Unavailable
from services.domain.kinds import ResourceKind
from services.domain.operation import shown_to
from services.domain.resources import UNUSED, QuotaAmounts
from services.runtime.lane import Lane

LIMIT_MAX = 1000


class Reader:
    """Answers queries: those for one thing that come at one moment in one go, lists one by one."""

    def __init__(self, store: Store, bodies: Bodies, usual_limits: QuotaAmounts) -> None:
        self._store = store
        self._bodies = bodies
        self._usual = usual_limits
        self._lane: Lane[Query, Page] = Lane(self._round, name="reads")
        # A round of one: after each the next project has its turn, and deadlines are looked at.
        self._pages: Lane[Query, Page] = Lane(self._round, name="pages", items_max=1)

    async def run(self) -> None:
        """Runs the lanes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lane.run())
            group.create_task(self._pages.run())

    async def read(self, caller: Caller, query: Query, *, time_left_s: float | None = None) -> Page:
        """The page, cut down to what the caller may see. Raises Invalid (FILTER_INVALID),
        OutOfRange (REVISION_COMPACTED), NoCapacity (READ_TOO_LONG), Unavailable (DEADLINE_PASSED).
        """
        lane = self._pages if query.is_page else self._lane
        page = await lane.submit(_cut(caller, query), caller.project_id, time_left_s=time_left_s)
        if query.kind is ResourceKind.PROJECT and query.id and not page.records:
            return await self._unknown(caller, query.id, page)
        return page

    async def _unknown(self, caller: Caller, project_id: str, page: Page) -> Page:
        """A project that nobody has made known has the usual limits, and its use all the same."""
        if not caller.cloud_admin and caller.project_id != project_id:
            return page
        row = (await self._store.projects_read([project_id])).get(project_id)
        quota = ((row.limits if row else None) or self._usual, row.used if row else UNUSED)
        record = self._bodies.unknown_project(project_id, page.revision)
        return replace(page, records=(replace(record, quota=quota),))

    async def _round(self, queries: Sequence[Query]) -> list[Page | Exception]:
        try:
            return list(await self._store.records_read(queries))
        except Unavailable:
            raise
        except CloudError as error:
            if len(queries) == 1:
                return [error]
            # One of them cannot be answered: find out which, and answer the others.
            return [(await self._round([query]))[0] for query in queries]


def _cut(caller: Caller, query: Query) -> Query:
    shown = shown_to(cloud_admin=caller.cloud_admin)
    return replace(
        query,
        project_id=query.project_id if caller.cloud_admin else caller.project_id,
        limit=max(1, min(query.limit, LIMIT_MAX)),
        conditions=(*query.conditions, *(shown if query.kind is ResourceKind.OPERATION else ())),
    )
