"""Accepts instances: new ones, other names and labels, the wish for absence.

Does not own their power switch (accept_power).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.conductor.flows.accept import Acceptance
from services.conductor.flows.advance import Advancer
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.commit import Urgency
from services.conductor.flows.refuse import chosen, not_now, require_etag
from services.conductor.logic import lifecycle, operations
from services.conductor.logic.items import Item
from services.conductor.logic.operations import About
from services.conductor.logic.rows import (
    NEW_STANDING,
    CatalogRow,
    FlavorRow,
    ImageRow,
    InstanceRow,
    KeyPairRow,
    Situation,
    Wanted,
)
from services.domain.errors import Invalid
from services.domain.instance import Action, Illegal, Power
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction

UPDATABLE = ("name", "labels")
# Under this a batch is remembered, its creates under this and their places in it.
BATCH = "BatchCreateInstances"


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What a user asks a new instance to be."""

    name: str
    flavor_id: str
    image_id: str
    labels: dict[str, str]
    ssh_public_keys: tuple[str, ...]
    user_data: bytes
    key_pair_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceChanges:
    """What a user asks to be changed of an instance: of name and labels what `mask` names."""

    name: str
    labels: dict[str, str]
    mask: tuple[str, ...]
    etag: str


class InstanceAcceptor:
    """Turns wishes about instances into commits."""

    def __init__(self, acceptance: Acceptance, advancer: Advancer) -> None:
        self._acceptance = acceptance
        self._advancer = advancer

    async def create(self, asked: Asked, new: NewInstance) -> Accepted:
        """Commit 1 of a create. Raises Invalid (FLAVOR_NOT_FOUND, IMAGE_NOT_FOUND,
        IMAGE_TOO_LARGE, KEY_PAIR_NOT_FOUND), AlreadyExists (NAME_TAKEN), NoCapacity
        (QUOTA_EXCEEDED).
        """

        async def decide() -> Item:
            row = await self._row(asked, new)
            operation = operations.new_operation(
                self._acceptance.ids.new_id(),
                row,
                action=OperationAction.CREATE_INSTANCE,
                author=asked.author,
                now_s=self._acceptance.clock.now_s(),
            )
            key = asked.key(row.id, operation.id)
            return Item(request=key, instance=row, operations=(operation,))

        accepted = await self._acceptance.accept(asked, ResourceKind.INSTANCE, decide)
        if accepted.made is not None:
            self._advancer.nudge(accepted.resource.id)
        return accepted

    async def create_of_batch(self, asked: Asked, new: NewInstance, index: int) -> Accepted:
        """One create of a batch, remembered by its place in it. Raises as `create` does, and
        Invalid (REQUEST_ID_REUSED) for all of them where anything of another batch was made under
        the request id.
        """
        return await self.create(replace(asked, method=f"{BATCH}#{index}", batch=BATCH), new)

    async def update(self, asked: Asked, instance_id: str, changes: InstanceChanges) -> Accepted:
        """Another name, other labels, done at once. Raises NotFound (INSTANCE_NOT_FOUND), Conflict
        (ETAG_MISMATCH), Invalid (INVALID_FIELD), AlreadyExists (NAME_TAKEN), WrongState
        (INVALID_INSTANCE_STATE).
        """

        async def decide() -> Item:
            fields = chosen(changes.mask, UPDATABLE)
            if "name" in fields and not changes.name:
                raise Invalid("INVALID_FIELD", "a name cannot be empty", field="name")
            situation = await self._acceptance.instance(asked, instance_id)
            row = situation.instance
            require_etag(row.id, row.version, changes.etag)
            name = changes.name if "name" in fields else row.name
            labels = changes.labels if "labels" in fields else row.labels
            about = About(row.project_id, row.id)
            operation = self._acceptance.done(asked, OperationAction.UPDATE_INSTANCE, about)
            item = lifecycle.renamed(situation, name, labels, operation)
            if isinstance(item, Illegal):
                raise not_now(row.standing, Action.UPDATE, item)
            return replace(item, request=asked.key(row.id, operation.id))

        return await self._acceptance.accept(asked, ResourceKind.INSTANCE, decide)

    async def delete(self, asked: Asked, instance_id: str) -> Accepted:
        """The wish for absence. Raises NotFound (INSTANCE_NOT_FOUND) also for another project's."""

        async def decide() -> Item:
            return self._deletion(asked, await self._acceptance.instance(asked, instance_id))

        accepted = await self._acceptance.accept(
            asked, ResourceKind.INSTANCE, decide, urgency=Urgency.REMOVED
        )
        if accepted.made is not None:
            self._advancer.nudge(instance_id)
        return accepted

    def _deletion(self, asked: Asked, situation: Situation) -> Item:
        row, now_s = situation.instance, self._acceptance.clock.now_s()
        operation = operations.new_operation(
            self._acceptance.ids.new_id(),
            row,
            action=OperationAction.DELETE_INSTANCE,
            author=asked.author,
            now_s=now_s,
        )
        item = lifecycle.delete_asked(situation, operation, now_s)
        if item is None:
            # It is on its way out already: this request joins the operation that removes it.
            assert situation.operation is not None
            return Item(request=asked.key(row.id, situation.operation.id))
        return replace(item, request=asked.key(row.id, operation.id))

    async def _row(self, asked: Asked, new: NewInstance) -> InstanceRow:
        flavor, image, *pairs = await self._acceptance.entries(
            asked,
            (ResourceKind.FLAVOR, new.flavor_id),
            (ResourceKind.IMAGE, new.image_id),
            *((ResourceKind.KEY_PAIR, id_) for id_ in new.key_pair_ids),
        )
        if not isinstance(flavor, FlavorRow):
            raise Invalid(
                "FLAVOR_NOT_FOUND", f"there is no flavor {new.flavor_id}", field="flavor_id"
            )
        if not isinstance(image, ImageRow) or not (
            image.public or asked.may_touch(image.project_id)
        ):
            raise Invalid("IMAGE_NOT_FOUND", f"there is no image {new.image_id}", field="image_id")
        _require_room(image, flavor)
        return InstanceRow(
            id=self._acceptance.ids.new_id(),
            project_id=asked.caller.project_id,
            name=new.name,
            standing=NEW_STANDING,
            power=Power.PENDING,
            flavor_id=flavor.id,
            image_id=image.id,
            labels=new.labels,
            resources=flavor.resources,
            wanted=Wanted(
                True, Power.RUNNING, 1, image.reference, _keys(asked, new, pairs), new.user_data
            ),
            created_at_s=self._acceptance.clock.now_s(),
        )


def _keys(asked: Asked, new: NewInstance, pairs: Sequence[CatalogRow | None]) -> tuple[str, ...]:
    """The keys given, then those of the key pairs; each once."""
    keys = list(new.ssh_public_keys)
    for id_, pair in zip(new.key_pair_ids, pairs, strict=True):
        if not isinstance(pair, KeyPairRow) or pair.project_id != asked.caller.project_id:
            raise Invalid("KEY_PAIR_NOT_FOUND", f"there is no key pair {id_}", field="key_pair_ids")
        keys.append(pair.public_key)
    return tuple(dict.fromkeys(keys))


def _require_room(image: ImageRow, flavor: FlavorRow) -> None:
    if image.min_disk_gib > flavor.resources.disk_gib:
        raise Invalid(
            "IMAGE_TOO_LARGE",
            f"the image needs a disk of {image.min_disk_gib} GiB, flavor {flavor.name} has "
            f"{flavor.resources.disk_gib} GiB; choose a larger flavor",
            field="image_id",
            metadata={"min_disk_gib": str(image.min_disk_gib)},
        )
