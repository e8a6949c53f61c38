"""Deletes an image: a public one only for cloud admins. Its bytes go along once nobody needs them.

Bytes that an instance may still be made from stay.
"""

from collections.abc import Callable

from services.api.flows.import_image import is_used
from services.api.flows.ports import Accepted, Conductor, ImageStore, WishAbout
from services.api.logic.caller import Caller
from services.api.logic.row import Row, is_visible
from services.domain.errors import CloudError, Denied
from services.domain.kinds import ResourceKind
from services.runtime.log import logger


async def delete_image(
    conductor: Conductor,
    store: ImageStore,
    caller: Caller,
    wish: WishAbout,
    *,
    digest_of: Callable[[Row], str],
) -> Accepted:
    """Commits the wish. Raises Denied (ROLE_MISSING), NotFound (IMAGE_NOT_FOUND)."""
    if not caller.cloud_admin:
        row = await conductor.row_read(caller, ResourceKind.IMAGE, wish.id)
        if row is not None and row.public and is_visible(row, caller):
            raise Denied("ROLE_MISSING", "only cloud admins remove public images")
    accepted = await conductor.wish_accept(caller, wish)
    digest = digest_of(accepted.resource)
    try:
        async with store.alone():
            if not await is_used(conductor, caller, digest, image_id=accepted.resource.id):
                await store.remove(digest)
    except CloudError as error:
        # The image is deleted all the same; its bytes wait for the next import or delete of them.
        logger().warning("bytes of a deleted image stay", digest=digest, error=repr(error))
    return accepted
