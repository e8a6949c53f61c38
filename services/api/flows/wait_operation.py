"""Waits for the end of an operation: listens first, then reads, so that no end is missed between
the two.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.api.flows.follow_changes import Hub
from services.api.flows.get_row import get_row
from services.api.flows.ports import Conductor
from services.api.logic.caller import Caller
from services.api.logic.row import Row
from services.domain.kinds import ResourceKind

DEFAULT_S = 30.0


@dataclass(frozen=True, slots=True)
class WaitAsk:
    """Which operation, and how long."""

    operation_id: str
    timeout_s: float


async def wait_operation(
    conductor: Conductor,
    hub: Hub,
    caller: Caller,
    ask: WaitAsk,
    *,
    is_ended: Callable[[Row], bool],
) -> Row:
    """The operation when it has ended, or as it is after the timeout.

    Raises NotFound, NoCapacity (TOO_MANY_WATCHES), Unavailable.
    """
    operation_id = ask.operation_id.lower()
    with hub.mailbox(ResourceKind.OPERATION, operation_id, caller.project_id) as mailbox:
        row = await get_row(conductor, caller, ResourceKind.OPERATION, ask.operation_id)
        try:
            async with asyncio.timeout(ask.timeout_s):
                while not is_ended(row):
                    newer = await mailbox.take()
                    if newer.version > row.version:
                        row = newer
        except TimeoutError:
            return await get_row(conductor, caller, ResourceKind.OPERATION, ask.operation_id)
        return row
