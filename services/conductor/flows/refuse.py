"""Refuses: what several wishes say no to, in the same words."""

from services.conductor.logic.mask import masked
from services.domain.errors import Conflict, Invalid, WrongState
from services.domain.etag import etag_of
from services.domain.instance import Action, Illegal, Standing


def chosen(mask: tuple[str, ...], fields: tuple[str, ...]) -> frozenset[str]:
    """The fields that an update mask names. Raises Invalid (INVALID_FIELD)."""
    found = masked(mask, fields)
    if isinstance(found, str):
        raise Invalid("INVALID_FIELD", found, field="update_mask")
    return found


def require_etag(row_id: str, version: int, etag: str) -> None:
    """Raises Conflict (ETAG_MISMATCH) where an etag is given that is not that of this version."""
    if etag and etag != etag_of(row_id, version):
        raise Conflict(
            "ETAG_MISMATCH",
            "it has changed since it was read; read it again and send its new etag",
            metadata={"id": row_id},
        )


def spoken(action: Action) -> str:
    """The action in words."""
    return action.name.lower().replace("_", " ")


def not_now(standing: Standing, action: Action, why: Illegal) -> WrongState:
    """The table does not allow the action: INVALID_INSTANCE_STATE or OPERATION_UNDER_WAY."""
    return WrongState(
        why.reason,
        f"cannot {spoken(action)}: {why.message}",
        metadata={
            "state": standing.state.name,
            "task": standing.task.name,
            "action": action.name,
        },
    )
