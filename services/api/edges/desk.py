"""What all servicers share: whom they ask, and in whose name.

Owns that the present caller stands behind every question. Does not own messages.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from services.api.edges import present_call
from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.get_row import get_row
from services.api.flows.list_rows import ListAsk, ListPage, list_rows
from services.api.flows.ports import Accepted, Conductor, Wish
from services.api.flows.wait_operation import WaitAsk, wait_operation
from services.api.flows.watch_operation import watch_operation
from services.api.flows.watch_rows import Run, WatchAsk, watch_rows
from services.api.logic.caller import Caller
from services.api.logic.row import Row
from services.domain.kinds import ResourceKind


@dataclass(frozen=True, slots=True)
class Desk:
    """Asks for the present caller. `page_key` seals tokens; replicas share it."""

    conductor: Conductor
    hub: Hub
    feed: Feed
    page_key: bytes

    @property
    def caller(self) -> Caller:
        """Who makes the present call."""
        return present_call.caller()

    async def accept(self, wish: Wish) -> Accepted:
        """Commits a mutation. Raises what the conductor refuses."""
        return await self.conductor.wish_accept(self.caller, wish)

    async def row(self, kind: ResourceKind, row_id: str) -> Row:
        """One row as of the newest commit. Raises NotFound (<KIND>_NOT_FOUND)."""
        return await get_row(self.conductor, self.caller, kind, row_id)

    async def page(self, ask: ListAsk) -> ListPage:
        """One page of a list. Raises what `list_rows` does."""
        return await list_rows(self.conductor, self.feed, self.caller, ask, page_key=self.page_key)

    async def waited(self, ask: WaitAsk, is_ended: Callable[[Row], bool]) -> Row:
        """The operation when it has ended, or after the timeout."""
        return await wait_operation(self.conductor, self.hub, self.caller, ask, is_ended=is_ended)

    def versions(
        self, operation_id: str, is_ended: Callable[[Row], bool]
    ) -> AsyncGenerator[Row, None]:
        """Every version of one operation up to its end."""
        return watch_operation(
            self.conductor, self.hub, self.caller, operation_id, is_ended=is_ended
        )

    def events(self, ask: WatchAsk) -> AsyncGenerator[Run, None]:
        """The events of one watch. Raises what `watch_rows` does."""
        return watch_rows(self.conductor, self.feed, self.caller, ask, page_key=self.page_key)
