"""Takes in an image: its description, its bytes, our own look at them, and only then the row.

Nothing is kept unless everything is right. The bytes are always received and hashed, also where the
store has them already: whoever names a digest must hold what it stands for.
"""

import asyncio
from collections.abc import AsyncIterator

from services.api.flows.drop_unused import drop_unused
from services.api.flows.ports import Accepted, Conductor, ImageDescription, ImageStore, Upload
from services.api.flows.share import Shares
from services.api.logic.caller import Caller
from services.api.logic.image_format import inspect
from services.api.logic.image_verdict import Rejected, Sound
from services.domain.errors import CloudError, Denied, Invalid, NoCapacity, Unavailable

PART_S = 60.0
# Each holds a piece in memory, and the room of the whole image on the disk. One image may well be
# sent a hundred times at once, by clients that do not wait.
UPLOADS_MAX = 128
UPLOADS_OF_ALL_MAX = 256


def uploads() -> Shares:
    """The shares of images that are on their way in."""
    return Shares(UPLOADS_MAX, UPLOADS_OF_ALL_MAX, _too_many)


def _too_many() -> NoCapacity:
    return NoCapacity(
        "TOO_MANY_UPLOADS",
        "as many images are on their way in here as may be; ask again when one has come",
        retry_after_s=10.0,
    )


async def import_image(
    conductor: Conductor,
    store: ImageStore,
    caller: Caller,
    parts: AsyncIterator[ImageDescription | bytes],
    *,
    shares: Shares,
) -> Accepted:
    """The registered image. Raises Invalid (INVALID_FIELD, SIZE_MISMATCH, DIGEST_MISMATCH,
    IMAGE_REJECTED), Denied, NoCapacity (STORAGE_FULL, TOO_MANY_UPLOADS), and what the conductor
    refuses.
    """
    with shares.one(caller.project_id):
        return await _import(conductor, store, caller, parts)


async def _import(
    conductor: Conductor,
    store: ImageStore,
    caller: Caller,
    parts: AsyncIterator[ImageDescription | bytes],
) -> Accepted:
    description = await _next(parts)
    if not isinstance(description, ImageDescription):
        raise Invalid(
            "INVALID_FIELD", "the first message must be the description", field="description"
        )
    if description.public and not caller.cloud_admin:
        raise Denied("ROLE_MISSING", "only cloud admins make images public")
    if description.validate_only:
        # Room is asked for, no byte is taken: how large its disk must be only the bytes could say.
        async with store.upload(description.size_bytes):
            return await conductor.image_register(caller, description, min_disk_gib=0)
    async with store.upload(description.size_bytes) as upload:
        await _receive(upload, parts, description.size_bytes)
        if await upload.digest() != description.digest:
            raise Invalid(
                "DIGEST_MISMATCH",
                "the bytes that came have another SHA-256 than described; send them again",
                field="description.digest",
            )
        sound = await _look(upload, description)
        return await _keep(conductor, store, caller, kept=(upload, description, sound))


async def _keep(
    conductor: Conductor,
    store: ImageStore,
    caller: Caller,
    *,
    kept: tuple[Upload, ImageDescription, Sound],
) -> Accepted:
    upload, description, sound = kept
    async with store.alone():
        is_new = await upload.keep(description.digest)
        try:
            return await conductor.image_register(
                caller, description, min_disk_gib=sound.min_disk_gib
            )
        except Unavailable:
            # It may have been committed: the bytes must stay.
            raise
        except CloudError:
            if is_new:
                await drop_unused(conductor, store, description.digest)
            raise


async def _next(
    parts: AsyncIterator[ImageDescription | bytes],
) -> ImageDescription | bytes | None:
    try:
        async with asyncio.timeout(PART_S):
            return await anext(parts, None)
    except TimeoutError:
        raise Invalid("UPLOAD_STALLED", f"no byte came for {PART_S:.0f} s; send it again") from None


async def _receive(
    upload: Upload, parts: AsyncIterator[ImageDescription | bytes], size_bytes: int
) -> None:
    received = 0
    while received <= size_bytes:
        part = await _next(parts)
        if part is None:
            break
        if isinstance(part, ImageDescription):
            raise Invalid("INVALID_FIELD", "the description comes once", field="description")
        received += len(part)
        if received <= size_bytes:
            await upload.write(part)
    if received != size_bytes:
        least = "at least " if received > size_bytes else ""
        raise Invalid(
            "SIZE_MISMATCH",
            f"{size_bytes} bytes were described, {least}{received} came",
            field="description.size_bytes",
            metadata={"described": str(size_bytes), "received": str(received)},
        )


async def _look(upload: Upload, description: ImageDescription) -> Sound:
    verdict = await upload.inspect(
        lambda read: inspect(read, description.size_bytes, description.kind)
    )
    if isinstance(verdict, Rejected):
        raise Invalid(
            "IMAGE_REJECTED",
            f"the image is refused: {verdict.why}",
            field="description.kind",
            metadata={"why": verdict.why},
        )
    return verdict
