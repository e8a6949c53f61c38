"""Deletes an image: a public one only for cloud admins."""

from services.api.flows.ports import Accepted, Conductor, Wish
from services.api.logic.caller import Caller
from services.api.logic.row import is_visible
from services.domain.errors import Denied
from services.domain.kinds import ResourceKind


async def delete_image(
    conductor: Conductor, caller: Caller, wish: Wish, *, image_id: str
) -> Accepted:
    """Commits the wish. Raises Denied (ROLE_MISSING), NotFound (IMAGE_NOT_FOUND)."""
    if not caller.cloud_admin:
        row = await conductor.row_read(caller, ResourceKind.IMAGE, image_id)
        if row is not None and row.public and is_visible(row, caller):
            raise Denied("ROLE_MISSING", "only cloud admins remove public images")
    return await conductor.wish_accept(caller, wish)
