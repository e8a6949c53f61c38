"""Gives a host the bytes of an image: only such as one of its claims names. Source: MECHANICS D7.

What is there but not for this host, and what is not there, get the same answer.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.api.flows.ports import HostRecords, ImageStore
from services.domain.errors import NotFound


@dataclass(frozen=True, slots=True)
class BlobAsk:
    """Which agent asks for which bytes; `offset` is the first one wanted."""

    host_id: str
    incarnation: int
    digest: str
    offset: int


async def fetch_blob(
    records: HostRecords, store: ImageStore, ask: BlobAsk
) -> AsyncGenerator[bytes, None]:
    """Pieces of the blob. Raises NotFound (BLOB_NOT_FOUND), Conflict (SUPERSEDED), Invalid
    (INVALID_FIELD), Unavailable.
    """
    try:
        digests = await records.digests_read(ask.host_id, ask.incarnation)
    except NotFound:
        digests = frozenset()
    if ask.digest not in digests:
        raise NotFound("BLOB_NOT_FOUND", "there is no blob of this digest")
    async for piece in store.read(ask.digest, ask.offset):
        yield piece
