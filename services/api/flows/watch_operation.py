"""Follows one operation to its end: listens first, then reads, so that no version is missed between
the two.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from services.api.flows.follow_changes import Hub
from services.api.flows.get_row import get_row
from services.api.flows.ports import Conductor
from services.api.flows.take_changes import Mailbox
from services.api.logic.caller import Caller
from services.api.logic.row import Row
from services.domain.errors import Unauthenticated
from services.domain.kinds import ResourceKind


async def watch_operation(
    conductor: Conductor,
    hub: Hub,
    caller: Caller,
    operation_id: str,
    *,
    is_ended: Callable[[Row], bool],
) -> AsyncGenerator[Row, None]:
    """The operation as it is and each later version; the one that ends it is the last.

    Raises NotFound (OPERATION_NOT_FOUND), NoCapacity (WATCH_TOO_SLOW, TOO_MANY_WATCHES),
    Unauthenticated (TOKEN_EXPIRED), Unavailable (API_STOPPING, HISTORY_CHANGED).
    """
    of_row = (ResourceKind.OPERATION, operation_id.lower())
    with hub.mailbox(*of_row, caller.project_id) as mailbox:
        row = await get_row(conductor, caller, ResourceKind.OPERATION, operation_id)
        yield row
        while not is_ended(row):
            newer = await _taken(mailbox, caller)
            if newer.version > row.version:
                row = newer
                yield row


async def _taken(mailbox: Mailbox, caller: Caller) -> Row:
    left_s = caller.expires_at_s - time.time()
    try:
        if left_s <= 0:
            # What is there is taken without a pause, in which a timeout could show.
            raise TimeoutError
        async with asyncio.timeout(left_s):
            return await mailbox.take()
    except TimeoutError:
        raise Unauthenticated(
            "TOKEN_EXPIRED", "the token of this watch has expired; ask with a new one"
        ) from None
