"""Deletes an image: a public one only for cloud admins. Its bytes go along once nobody needs them.

Bytes that an instance may still be made from stay.
"""

from collections.abc import Callable

from services.api.flows.drop_unused import drop_unused
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
    row = await conductor.row_read(caller, ResourceKind.IMAGE, wish.id)
    if row is not None and is_visible(row, caller):
        if row.public and not caller.cloud_admin:
            raise Denied("ROLE_MISSING", "only cloud admins remove public images")
        if not wish.validate_only:
            # Before the commit: a crash after it must not make the bytes of living instances
            # unknown.
            await store.note_deleted(digest_of(row), row.id)
    accepted = await conductor.wish_accept(caller, wish)
    if wish.validate_only:
        return accepted
    digest = digest_of(accepted.resource)
    try:
        async with store.alone():
            await drop_unused(conductor, store, digest)
    except CloudError as error:
        # The image is deleted all the same; the sweep takes its bytes.
        logger().warning("bytes of a deleted image stay", digest=digest, error=repr(error))
    return accepted
