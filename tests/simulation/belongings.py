"""What users of a simulated cloud own beside instances: key pairs, and images, which they upload
and delete through the flows of api while hosts fetch them.

Owns what is surely there and what surely is not any more, and that creates are told so.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from stead.v1 import image_pb2, instance_pb2, key_pair_pb2

from services.api.edges.public_messages import digest_of
from services.api.flows.delete_image import delete_image
from services.api.flows.import_image import import_image
from services.api.flows.ports import Accepted, ImageDescription
from services.conductor.logic.rows import ImageRow
from services.domain.kinds import Architecture, ImageKind
from tests.checkers.history import Call, Ending
from tests.simulation.clients import Client
from tests.simulation.parts import ApiDoor
from tests.simulation.world import World

PAIRS_MAX = 3
IMAGES_MAX = 2
PIECE_BYTES = 900
# What every ed25519 key begins with; 32 bytes of its own follow.
ED25519 = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
CORRUPT = frozenset({"BLOB_NOT_FOUND", "IMAGE_CORRUPT"})


@dataclass(slots=True)
class Belongings:
    """Ids of one noun: of what is surely there, and of what surely is not any more."""

    there: list[str]
    gone: list[str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an instance is to be made of, and as what that must be refused, "" if it must not."""

    image_id: str
    pair_ids: list[str]
    refused_as: str


class Owner(Client):
    """One who owns things that only itself deletes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._pairs = Belongings([], [])
        self._images = Belongings([], [])
        self._contents: dict[str, bytes] = {}
        self._serial = 0

    def new_name(self) -> str:
        """One that no other has."""
        self._serial += 1
        return f"{self._name}-{self._serial}"

    async def change_belongings(self) -> None:
        """One more, or one less."""
        rng = self.rng
        if rng.random() < 0.5:
            if len(self._pairs.there) < PAIRS_MAX and rng.random() < 0.7:
                await self._new_pair()
            else:
                await self._delete(self._pairs, key_pair_pb2.DeleteKeyPairRequest())
        elif len(self._images.there) < IMAGES_MAX and rng.random() < 0.7:
            await self._new_image()
        else:
            await self._delete(self._images, image_pb2.DeleteImageRequest())

    async def delete_image(self, id_: str) -> None:
        """If it is one's own, maybe while something is made from it."""
        if id_ in self._images.there:
            await self._delete(self._images, image_pb2.DeleteImageRequest(id=id_))

    def chosen(self) -> Chosen:
        """For a new instance; now and then something that is gone."""
        rng, refused_as = self.rng, ""
        image_id = rng.choice([self._world.image_id, *self._images.there])
        pair_ids = rng.sample(self._pairs.there, rng.randint(0, len(self._pairs.there)))
        if self._pairs.gone and rng.random() < 0.05:
            pair_ids.append(rng.choice(self._pairs.gone))
            refused_as = "KEY_PAIR_NOT_FOUND"
        if self._images.gone and rng.random() < 0.05:
            image_id, refused_as = rng.choice(self._images.gone), "IMAGE_NOT_FOUND"
        return Chosen(image_id, pair_ids, refused_as)

    def judge(self, chosen: Chosen, call: Call) -> None:
        """What is there is found, what is gone is not. After a restore nothing is sure."""
        missed = call.reason if call.reason.endswith("_NOT_FOUND") else ""
        is_wrong = missed not in ("", chosen.refused_as)
        if call.ending is Ending.OK and chosen.refused_as:
            is_wrong = True
        if is_wrong and not self._world.shape.restored:
            self._work.troubles.append(f"{chosen} was answered with {call}")

    async def accept(self, door: ApiDoor, wish: Any) -> Accepted:
        """Images pass by the store of the api."""
        conductor, store = door.conductor, door.images
        if isinstance(wish, image_pb2.ImageDescription):
            return await import_image(
                conductor, store, self.caller, self._parts(wish), shares=door.uploads
            )
        if isinstance(wish, image_pb2.DeleteImageRequest):
            return await delete_image(conductor, store, self.caller, wish, digest_of=digest_of)
        return await super().accept(door, wish)

    async def _new_pair(self) -> None:
        key = b64encode(ED25519 + self.rng.randbytes(32)).decode()
        wish = key_pair_pb2.CreateKeyPairRequest(
            request_id=self._world.ids.new_id(),
            name=self.new_name(),
            public_key=f"ssh-ed25519 {key}",
        )
        call = await self.ask_once_or_twice("CreateKeyPair", wish, "")
        if call.ending is Ending.OK:
            self._pairs.there.append(call.resource_id)

    async def _new_image(self) -> None:
        """Now and then of bytes that are known already, or that are not what they should be."""
        rng, known = self.rng, list(self._contents.values())
        content = rng.randbytes(rng.randrange(600, 4000))
        if known and rng.random() < 0.3:
            content = rng.choice(known)
        digest = sha256(content).hexdigest()
        self._contents[digest] = content
        is_broken = rng.random() < 0.1
        if is_broken:
            digest = digest[1:] + digest[0]
            self._contents[digest] = content
        wish = image_pb2.ImageDescription(
            request_id=self._world.ids.new_id(),
            name=self.new_name(),
            digest=digest,
            size_bytes=len(content),
        )
        call = await self.ask_once_or_twice("ImportImage", wish, "")
        if call.ending is Ending.OK:
            self._images.there.append(call.resource_id)
        if is_broken and (call.ending is Ending.OK or digest in self._world.blobs.contents):
            self._work.troubles.append(f"bytes that are not of their digest were kept: {call}")
        if is_broken:
            del self._contents[digest]

    async def _delete(self, things: Belongings, wish: Any) -> None:
        if not things.there:
            return
        wish.id = wish.id or self.rng.choice(things.there)
        things.there.remove(wish.id)
        wish.request_id = self._world.ids.new_id()
        method = type(wish).__name__.removesuffix("Request")
        call = await self.ask_once_or_twice(method, wish, wish.id)
        if call.ending is Ending.OK:
            things.gone.append(wish.id)

    async def _parts(
        self, described: image_pb2.ImageDescription
    ) -> AsyncIterator[ImageDescription | bytes]:
        """An upload as it arrives at the api."""
        delay_s, content = self._world.network.delay_s, self._contents[described.digest]
        yield ImageDescription(
            described.request_id, described.name, ImageKind.RAW, Architecture.X86_64,
            described.digest, described.size_bytes, public=False,
        )  # fmt: skip
        for start in range(0, len(content), PIECE_BYTES):
            await asyncio.sleep(delay_s())
            yield content[start : start + PIECE_BYTES]

    async def ask_once_or_twice(self, method: str, wish: Any, resource_id: str) -> Call:
        """Now and then as a client does that does not wait, or that uses an id again."""
        rng = self.rng
        if rng.random() < 0.05:
            # Twice at once, as by a client that does not wait for its first try.
            twin = asyncio.create_task(self.once(method, wish, resource_id))
            call = await self.until_known(method, wish, resource_id)
            await twin
        else:
            call = await self.until_known(method, wish, resource_id)
        known = call.ending is Ending.OK
        if known and rng.random() < 0.06:
            await self.once(method, wish, resource_id)
        if known and rng.random() < 0.03 and method == "CreateInstance":
            other = instance_pb2.CreateInstanceRequest()
            other.CopyFrom(wish)
            other.name += "-other"
            await self.once(method, other, resource_id)
        return call


def lost_bytes(world: World) -> list[str]:
    """What is wrong with the bytes of images when all is quiet: those of a living image are there,
    and no build ever lacked what its create was promised.
    """
    rows, kept = world.store.rows, world.blobs.contents
    found = [
        f"image {row.id} is there and its bytes are not"
        for row in rows.catalog.values()
        if isinstance(row, ImageRow) and not row.deleted and row.reference.digest not in kept
    ]
    for known in rows.operations.values():
        faults = [fault for fault in (known.row.fault, known.row.last_fault) if fault is not None]
        found += [f"{known.row.id} met {f}" for f in faults if f.reason in CORRUPT]
    return found
