"""Reads records on a caller's behalf: rows of other projects do not exist for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.conductor.flows.ports import Page, Query, Store
from services.conductor.logic.rows import Caller
from services.domain.errors import CloudError
from services.runtime.lane import Lane

LIMIT_MAX = 1000


class Reader:
    """Answers queries, those of one moment in one go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lane: Lane[Query, Page] = Lane(self._round, name="reads")

    async def run(self) -> None:
        """Runs the lane until cancelled."""
        await self._lane.run()

    async def read(self, caller: Caller, query: Query) -> Page:
        """The page, cut down to what the caller may see. Raises Invalid (FILTER_INVALID)."""
        project_id = query.project_id if caller.cloud_admin else caller.project_id
        return await self._lane.submit(
            replace(query, project_id=project_id, limit=max(1, min(query.limit, LIMIT_MAX)))
        )

    async def _round(self, queries: Sequence[Query]) -> list[Page | Exception]:
        return await asyncio.gather(*(self._one(query) for query in queries))

    async def _one(self, query: Query) -> Page | Exception:
        try:
            return (await self._store.records_read([query]))[0]
        except CloudError as error:
            return error
