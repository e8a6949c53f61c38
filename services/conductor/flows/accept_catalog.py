"""Accepts flavors, images and key pairs: new ones, and that they go."""

from dataclasses import dataclass, replace

from services.conductor.flows.accept import Acceptance, missing
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.commit import Urgency
from services.conductor.logic.items import Item
from services.conductor.logic.operations import About
from services.conductor.logic.rows import (
    CatalogRow,
    FlavorRow,
    ImageReference,
    ImageRow,
    KeyPairRow,
)
from services.domain.errors import Invalid
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction
from services.domain.public_key import NotAKey, public_key_from
from services.domain.resources import Resources

_REMOVAL = {
    ResourceKind.FLAVOR: OperationAction.DELETE_FLAVOR,
    ResourceKind.IMAGE: OperationAction.DELETE_IMAGE,
    ResourceKind.KEY_PAIR: OperationAction.DELETE_KEY_PAIR,
}


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image whose bytes are in the store."""

    name: str
    reference: ImageReference
    min_disk_gib: int
    public: bool


class CatalogAcceptor:
    """Turns wishes about what instances are made with into commits."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance

    async def create_flavor(self, asked: Asked, name: str, resources: Resources) -> Accepted:
        """A new size. Raises AlreadyExists (NAME_TAKEN)."""
        return await self._create(
            asked,
            OperationAction.CREATE_FLAVOR,
            ResourceKind.FLAVOR,
            FlavorRow(self._new_id(), name, resources, self._now_s()),
        )

    async def register_image(self, asked: Asked, new: NewImage) -> Accepted:
        """A verified image. Raises AlreadyExists (NAME_TAKEN)."""
        row = ImageRow(
            id=self._new_id(),
            project_id=asked.caller.project_id,
            name=new.name,
            reference=new.reference,
            min_disk_gib=new.min_disk_gib,
            public=new.public,
            created_at_s=self._now_s(),
        )
        return await self._create(asked, OperationAction.IMPORT_IMAGE, ResourceKind.IMAGE, row)

    async def create_key_pair(self, asked: Asked, name: str, line: str) -> Accepted:
        """A public key to keep. Raises Invalid (PUBLIC_KEY_INVALID), AlreadyExists (NAME_TAKEN)."""
        key = public_key_from(line)
        if isinstance(key, NotAKey):
            raise Invalid("PUBLIC_KEY_INVALID", key.message, field="public_key")
        row = KeyPairRow(
            id=self._new_id(),
            project_id=asked.caller.project_id,
            name=name,
            public_key=line,
            fingerprint=key.fingerprint,
            algorithm=key.algorithm,
            created_at_s=self._now_s(),
        )
        return await self._create(
            asked, OperationAction.CREATE_KEY_PAIR, ResourceKind.KEY_PAIR, row
        )

    async def delete(self, asked: Asked, kind: ResourceKind, entry_id: str) -> Accepted:
        """Takes an entry away. Raises NotFound (FLAVOR_NOT_FOUND, IMAGE_NOT_FOUND,
        KEY_PAIR_NOT_FOUND).
        """

        async def decide() -> Item:
            (row,) = await self._acceptance.entries(asked, (kind, entry_id))
            if row is None or not (isinstance(row, FlavorRow) or asked.may_touch(row.project_id)):
                raise missing(kind, entry_id)
            return self._item(asked, _REMOVAL[kind], replace(row, deleted=True))

        return await self._acceptance.accept(asked, kind, decide, urgency=Urgency.REMOVED)

    async def _create(
        self, asked: Asked, action: OperationAction, kind: ResourceKind, row: CatalogRow
    ) -> Accepted:
        async def decide() -> Item:
            return self._item(asked, action, row)

        return await self._acceptance.accept(asked, kind, decide)

    def _item(self, asked: Asked, action: OperationAction, row: CatalogRow) -> Item:
        about = About(asked.caller.project_id, row.id)
        operation = self._acceptance.done(asked, action, about)
        return Item(request=asked.key(row.id, operation.id), entry=row, operations=(operation,))

    def _new_id(self) -> str:
        return self._acceptance.ids.new_id()

    def _now_s(self) -> float:
        return self._acceptance.clock.now_s()
