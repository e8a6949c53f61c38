"""Reads records on a caller's behalf: rows of other projects do not exist for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.conductor.flows.ports import Bodies, Page, Query, Store
from services.conductor.logic.rows import Caller
from services.domain.errors import CloudError
from services.domain.kinds import ResourceKind
from services.domain.resources import UNUSED, QuotaAmounts
from services.runtime.lane import Lane

LIMIT_MAX = 1000


class Reader:
    """Answers queries, those of one moment in one go."""

    def __init__(self, store: Store, bodies: Bodies, usual_limits: QuotaAmounts) -> None:
        self._store = store
        self._bodies = bodies
        self._usual = usual_limits
        self._lane: Lane[Query, Page] = Lane(self._round, name="reads")

    async def run(self) -> None:
        """Runs the lane until cancelled."""
        await self._lane.run()

    async def read(self, caller: Caller, query: Query, *, time_left_s: float | None = None) -> Page:
        """The page, cut down to what the caller may see. Raises Invalid (FILTER_INVALID),
        OutOfRange (REVISION_COMPACTED), Unavailable (DEADLINE_PASSED).
        """
        project_id = query.project_id if caller.cloud_admin else caller.project_id
        page = await self._lane.submit(
            replace(query, project_id=project_id, limit=max(1, min(query.limit, LIMIT_MAX))),
            time_left_s=time_left_s,
        )
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
        except CloudError:
            # One of them cannot be answered: find out which, and answer the others.
            return await self._one_by_one(queries)

    async def _one_by_one(self, queries: Sequence[Query]) -> list[Page | Exception]:
        return await asyncio.gather(*(self._one(query) for query in queries))

    async def _one(self, query: Query) -> Page | Exception:
        try:
            return (await self._store.records_read([query]))[0]
        except CloudError as error:
            return error
