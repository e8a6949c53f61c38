"""Shows one row: what is not the caller's, is deleted or never was, gets the same answer."""

from services.api.flows.ports import Conductor
from services.api.logic.caller import Caller
from services.api.logic.row import Row, is_visible
from services.domain.errors import NotFound
from services.domain.kinds import ResourceKind


async def get_row(conductor: Conductor, caller: Caller, kind: ResourceKind, row_id: str) -> Row:
    """The row as of the newest commit. Raises NotFound (<KIND>_NOT_FOUND)."""
    row = await conductor.row_read(caller, kind, row_id)
    if row is None or row.deleted or not is_visible(row, caller):
        raise not_found(kind, row_id)
    return row


def not_found(kind: ResourceKind, row_id: str) -> NotFound:
    """The one answer for what is not there and for what is not the caller's."""
    noun = kind.name.lower()
    return NotFound(
        f"{kind.name}_NOT_FOUND", f"there is no {noun} {row_id}", metadata={"id": row_id}
    )
