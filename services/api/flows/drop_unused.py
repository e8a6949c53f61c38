"""Removes bytes that nobody needs any more.

Needed are bytes that a living image names, and those that a living instance was made from: their
image may be deleted, so the store remembers which images named a digest. Owns the sweep for what a
delete or a broken import left.
"""

from dataclasses import replace

from services.api.flows.ports import Conductor, ImageStore
from services.api.logic.caller import Caller, Role
from services.api.logic.row import PageQuery
from services.domain.condition import Condition
from services.domain.errors import CloudError
from services.domain.kinds import ResourceKind
from services.runtime.log import logger

SWEEP_EVERY_S = 3600.0
AGE_S = 3600.0

# Bytes are shared by projects, so the question is about all of them.
_EVERYONE = Caller("stead.api", "stead", Role.CLOUD_ADMIN, float("inf"))


async def drop_unused(conductor: Conductor, store: ImageStore, digest: str) -> None:
    """Removes the bytes unless they are needed; to be called while alone at the store.

    Raises Unavailable.
    """
    if not await _is_used(conductor, store, digest):
        await store.remove(digest)


async def sweep(conductor: Conductor, store: ImageStore) -> None:
    """Goes once through all bytes that are older than an hour."""
    try:
        for digest in await store.older_than(AGE_S):
            async with store.alone():
                await drop_unused(conductor, store, digest)
    except CloudError as error:
        logger().warning("the image store is not swept", error=repr(error))


async def _is_used(conductor: Conductor, store: ImageStore, digest: str) -> bool:
    if await _is_any(conductor, ResourceKind.IMAGE, Condition("digest", (digest,))):
        return True
    for image_id in await store.deleted_images(digest):
        made_from = Condition("image_id", (image_id,))
        if await _is_any(conductor, ResourceKind.INSTANCE, made_from):
            return True
    return False


async def _is_any(conductor: Conductor, kind: ResourceKind, condition: Condition) -> bool:
    query = PageQuery(kind, "", 1, (condition,))
    page = await conductor.page_read(_EVERYONE, query)
    # A page may end before its first row, where many had to be looked at.
    while page.more and not page.rows:
        after = replace(query, after_key=page.last_key, after_id=page.last_id)
        page = await conductor.page_read(_EVERYONE, after)
    return bool(page.rows)
