"""Accepts what users ask for: each wish becomes one item, and its answer is what was committed.

Does not own who may ask, which api decided, nor what a repeated request is told (answer).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.conductor.flows.advance import Advancer
from services.conductor.flows.answer import Accepted, Answerer, Asked
from services.conductor.flows.commit import Committer
from services.conductor.flows.look import Looker
from services.conductor.flows.ports import Clock, Ids, Store
from services.conductor.logic import lifecycle
from services.conductor.logic.rows import (
    NEW_STANDING,
    Caller,
    CatalogRow,
    Committed,
    FlavorRow,
    ImageReference,
    ImageRow,
    InstanceRow,
    Item,
    OperationRow,
    Refusal,
    Situation,
    Wanted,
)
from services.domain.errors import Invalid, NotFound, Unavailable
from services.domain.instance import Illegal, Power
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.resources import Resources
from services.runtime.lane import Lane

TRIES_MAX = 8


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What a user asks a new instance to be."""

    name: str
    flavor_id: str
    image_id: str
    labels: dict[str, str]
    ssh_public_keys: tuple[str, ...]
    user_data: bytes


class Acceptor:
    """Turns wishes into commits."""

    def __init__(
        self, *, store: Store, committer: Committer, advancer: Advancer, clock: Clock, ids: Ids
    ) -> None:
        self._store = store
        self._committer = committer
        self._advancer = advancer
        self._clock = clock
        self._ids = ids
        self._answers = Answerer(store)
        self._looker = Looker(store)
        self._catalog: Lane[tuple[ResourceKind, str], CatalogRow | None] = Lane(
            self._catalog_round, name="catalog reads"
        )

    async def run(self) -> None:
        """Runs the reading lanes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._looker.run())
            group.create_task(self._catalog.run())

    async def create_instance(self, asked: Asked, new: NewInstance) -> Accepted:
        """Commit 1 of a create. Raises Invalid (FLAVOR_NOT_FOUND, IMAGE_NOT_FOUND,
        IMAGE_TOO_LARGE), AlreadyExists.
        """
        try:
            row = await self._instance_row(asked, new)
        except Invalid as error:
            return await self._answers.replay_or(asked, ResourceKind.INSTANCE, error)
        operation = self._operation(asked, OperationAction.CREATE_INSTANCE, row)
        item = Item(
            request=asked.key(row.id, operation.id),
            instance=row,
            operations=(operation,),
            look_again_s=1.0,
        )
        accepted = await self._commit_new(asked, item, ResourceKind.INSTANCE, new.name)
        self._advancer.nudge(accepted.resource.id, _known(accepted, row, operation))
        return accepted

    async def delete_instance(self, asked: Asked, instance_id: str) -> Accepted:
        """The wish for absence. Raises NotFound (INSTANCE_NOT_FOUND) also for another project's."""
        missing = NotFound(
            "INSTANCE_NOT_FOUND",
            f"there is no instance {instance_id}",
            metadata={"id": instance_id},
        )
        for _ in range(TRIES_MAX):
            situation = await self._looker.look(instance_id)
            if situation is None or not _may_touch(asked.caller, situation.instance.project_id):
                raise missing
            if situation.instance.deleted:
                return await self._answers.replay_or(asked, ResourceKind.INSTANCE, missing)
            item = self._delete_item(asked, situation)
            outcome = await self._committer.commit(item, situation.instance.project_id)
            if isinstance(outcome, Committed):
                self._advancer.nudge(instance_id)
                assert item.request is not None
                return await self._answers.committed(ResourceKind.INSTANCE, item.request, outcome)
            if outcome.refusal is not Refusal.STALE:
                return await self._answers.refused(outcome, ResourceKind.INSTANCE, "")
        raise Unavailable("ROW_CONTENDED", "the instance changes too fast; ask again")

    async def create_flavor(self, asked: Asked, name: str, resources: Resources) -> Accepted:
        """A new size. Raises AlreadyExists (NAME_TAKEN)."""
        row = FlavorRow(self._ids.new_id(), name, resources, self._clock.now_s())
        return await self._create_entry(asked, OperationAction.CREATE_FLAVOR, row)

    async def register_image(
        self, asked: Asked, row: tuple[str, ImageReference], min_disk_gib: int, public: bool
    ) -> Accepted:
        """An image whose bytes are in the store; `row` is (name, reference). Raises AlreadyExists
        (NAME_TAKEN).
        """
        name, reference = row
        image = ImageRow(
            id=self._ids.new_id(),
            project_id=asked.caller.project_id,
            name=name,
            reference=reference,
            min_disk_gib=min_disk_gib,
            public=public,
            created_at_s=self._clock.now_s(),
        )
        return await self._create_entry(asked, OperationAction.IMPORT_IMAGE, image)

    async def delete_entry(self, asked: Asked, kind: ResourceKind, entry_id: str) -> Accepted:
        """Takes a flavor or an image away. Raises NotFound (FLAVOR_NOT_FOUND, IMAGE_NOT_FOUND)."""
        action = (
            OperationAction.DELETE_FLAVOR
            if kind is ResourceKind.FLAVOR
            else OperationAction.DELETE_IMAGE
        )
        missing = NotFound(
            f"{kind.name}_NOT_FOUND",
            f"there is no {kind.name.lower()} {entry_id}",
            metadata={"id": entry_id},
        )
        for _ in range(TRIES_MAX):
            row = await self._catalog.submit((kind, entry_id))
            if row is None or (
                isinstance(row, ImageRow) and not _may_touch(asked.caller, row.project_id)
            ):
                return await self._answers.replay_or(asked, kind, missing)
            operation = self._done(asked, action, row.id)
            item = Item(
                request=asked.key(row.id, operation.id),
                entry=replace(row, deleted=True),
                operations=(operation,),
            )
            outcome = await self._committer.commit(item, asked.caller.project_id)
            if isinstance(outcome, Committed):
                assert item.request is not None
                return await self._answers.committed(kind, item.request, outcome)
            if outcome.refusal is not Refusal.STALE:
                return await self._answers.refused(outcome, kind, "")
        raise Unavailable("ROW_CONTENDED", "it changes too fast; ask again")

    async def _create_entry(
        self, asked: Asked, action: OperationAction, row: CatalogRow
    ) -> Accepted:
        operation = self._done(asked, action, row.id)
        item = Item(request=asked.key(row.id, operation.id), entry=row, operations=(operation,))
        kind = ResourceKind.FLAVOR if isinstance(row, FlavorRow) else ResourceKind.IMAGE
        return await self._commit_new(asked, item, kind, row.name)

    async def _commit_new(
        self, asked: Asked, item: Item, kind: ResourceKind, name: str
    ) -> Accepted:
        for _ in range(TRIES_MAX):
            outcome = await self._committer.commit(item, asked.caller.project_id)
            if isinstance(outcome, Committed):
                assert item.request is not None
                return await self._answers.committed(kind, item.request, outcome)
            # A new row is stale only beside its twin in the same round: the next round answers
            # from the twin.
            if outcome.refusal is not Refusal.STALE:
                return await self._answers.refused(outcome, kind, name)
        raise Unavailable("ROW_CONTENDED", "the same request is being accepted; ask again")

    async def _instance_row(self, asked: Asked, new: NewInstance) -> InstanceRow:
        flavor, image = await asyncio.gather(
            self._catalog.submit((ResourceKind.FLAVOR, new.flavor_id)),
            self._catalog.submit((ResourceKind.IMAGE, new.image_id)),
        )
        if not isinstance(flavor, FlavorRow):
            raise Invalid(
                "FLAVOR_NOT_FOUND", f"there is no flavor {new.flavor_id}", field="flavor_id"
            )
        if not isinstance(image, ImageRow) or not (
            image.public or _may_touch(asked.caller, image.project_id)
        ):
            raise Invalid("IMAGE_NOT_FOUND", f"there is no image {new.image_id}", field="image_id")
        if image.min_disk_gib > flavor.resources.disk_gib:
            raise Invalid(
                "IMAGE_TOO_LARGE",
                f"the image needs a disk of {image.min_disk_gib} GiB, flavor {flavor.name} has "
                f"{flavor.resources.disk_gib} GiB; choose a larger flavor",
                field="image_id",
                metadata={"min_disk_gib": str(image.min_disk_gib)},
            )
        return InstanceRow(
            id=self._ids.new_id(),
            project_id=asked.caller.project_id,
            name=new.name,
            standing=NEW_STANDING,
            power=Power.PENDING,
            flavor_id=flavor.id,
            image_id=image.id,
            labels=new.labels,
            resources=flavor.resources,
            wanted=Wanted(True, True, 1, image.reference, new.ssh_public_keys, new.user_data),
            created_at_s=self._clock.now_s(),
        )

    def _delete_item(self, asked: Asked, situation: Situation) -> Item:
        operation = self._operation(asked, OperationAction.DELETE_INSTANCE, situation.instance)
        item = lifecycle.delete_asked(situation, operation, self._clock.now_s())
        if not isinstance(item, Illegal):
            return replace(item, request=asked.key(situation.instance.id, operation.id))
        # It is on its way out already: this request joins the operation that removes it.
        assert situation.operation is not None
        return Item(request=asked.key(situation.instance.id, situation.operation.id))

    def _operation(self, asked: Asked, action: OperationAction, row: InstanceRow) -> OperationRow:
        return lifecycle.new_operation(
            self._ids.new_id(),
            row,
            action=action,
            author=lifecycle.Author(asked.caller.subject, asked.request_id),
            now_s=self._clock.now_s(),
        )

    def _done(self, asked: Asked, action: OperationAction, resource_id: str) -> OperationRow:
        now_s = self._clock.now_s()
        return OperationRow(
            id=self._ids.new_id(),
            project_id=asked.caller.project_id,
            resource_id=resource_id,
            action=action,
            state=OperationState.DONE,
            phases=((Phase.ENDED, now_s),),
            actor=asked.caller.subject,
            request_id=asked.request_id,
            created_at_s=now_s,
            ended_at_s=now_s,
        )

    async def _catalog_round(
        self, asked: Sequence[tuple[ResourceKind, str]]
    ) -> list[CatalogRow | None | Exception]:
        found = await self._store.catalog_read(asked)
        return [found.get(one) for one in asked]


def _known(accepted: Accepted, row: InstanceRow, operation: OperationRow) -> Situation | None:
    """What this acceptance has just committed; None where it answers from an earlier one."""
    made, begun = accepted.resource, accepted.operation
    if made.id != row.id or made.version != 1:
        return None
    return Situation(
        replace(row, version=1, revision=made.revision),
        replace(operation, version=1, revision=begun.revision),
        (),
        head_revision=max(made.revision, begun.revision),
    )


def _may_touch(caller: Caller, project_id: str) -> bool:
    return caller.cloud_admin or caller.project_id == project_id
