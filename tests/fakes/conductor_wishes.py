"""What a conductor in memory makes of wishes: request ids, names, and whose rows they are about."""

from __future__ import annotations

import hashlib
from typing import Any

from stead.internal.v1 import conductor_pb2, resource_pb2
from stead.v1 import flavor_pb2, image_pb2, instance_pb2, operation_pb2

from services.domain.errors import AlreadyExists, CloudError, Invalid, NotFound
from services.runtime.rpc import code_of
from tests.fakes.conductor_rows import FLAVOR, IMAGE, INSTANCE, OPERATION, Key, Rows, sees


class Wishes(Rows):
    """Rows that users change."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[tuple[str, str], tuple[bytes, Key, Key]] = {}

    async def result(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        """What became of one wish; the same for the same request id."""
        try:
            return await self._accepted(mutation)
        except CloudError as refused:
            return conductor_pb2.MutationResult(error=item_error(refused))

    async def _accepted(self, mutation: conductor_pb2.Mutation) -> conductor_pb2.MutationResult:
        wish = getattr(mutation, mutation.WhichOneof("wish") or "")
        described = isinstance(wish, conductor_pb2.RegisterImage)
        request_id = wish.description.request_id if described else wish.request_id
        known = (mutation.caller.project_id, request_id)
        fingerprint = hashlib.sha256(
            type(wish).__name__.encode() + wish.SerializeToString(deterministic=True)
        ).digest()
        if known in self.requests:
            before, resource, operation = self.requests[known]
            if before != fingerprint:
                raise Invalid(
                    "REQUEST_ID_REUSED", "this request id was used for another", field="request_id"
                )
        else:
            resource, operation = await self._carried_out(mutation, wish, request_id)
            self.requests[known] = (fingerprint, resource, operation)
        return conductor_pb2.MutationResult(
            resource=self.rows[resource], operation=self.rows[operation]
        )

    async def _carried_out(
        self, mutation: conductor_pb2.Mutation, wish: Any, request_id: str
    ) -> tuple[Key, Key]:
        action, done = operation_pb2.OPERATION_ACTION_UNSPECIFIED, True
        match wish:
            case instance_pb2.CreateInstanceRequest():
                action, done = operation_pb2.OPERATION_ACTION_CREATE_INSTANCE, False
                key = await self._create_instance(mutation.caller, wish)
            case instance_pb2.DeleteInstanceRequest():
                action, done = operation_pb2.OPERATION_ACTION_DELETE_INSTANCE, False
                key = self._own(mutation.caller, INSTANCE, wish.id)
                await self.change_instance(wish.id, task=instance_pb2.INSTANCE_TASK_DELETING)
            case flavor_pb2.CreateFlavorRequest():
                action = operation_pb2.OPERATION_ACTION_CREATE_FLAVOR
                self._refuse_name(FLAVOR, "", wish.name)
                key = await self.add(
                    FLAVOR,
                    flavor_pb2.Flavor(
                        name=wish.name,
                        vcpus=wish.vcpus,
                        memory_mib=wish.memory_mib,
                        disk_gib=wish.disk_gib,
                    ),
                )
            case conductor_pb2.RegisterImage():
                action = operation_pb2.OPERATION_ACTION_IMPORT_IMAGE
                key = await self._register_image(mutation.caller, wish)
            case flavor_pb2.DeleteFlavorRequest():
                action = operation_pb2.OPERATION_ACTION_DELETE_FLAVOR
                key = self._own(mutation.caller, FLAVOR, wish.id)
                await self.commit(FLAVOR, self.body(*key), deleted=True)
            case _:
                action = operation_pb2.OPERATION_ACTION_DELETE_IMAGE
                key = self._own(mutation.caller, IMAGE, wish.id)
                await self.commit(IMAGE, self.body(*key), deleted=True)
        operation = operation_pb2.Operation(
            project_id=mutation.caller.project_id,
            action=action,
            state=operation_pb2.OPERATION_STATE_DONE
            if done
            else operation_pb2.OPERATION_STATE_RUNNING,
            resource_id=key[1],
            actor=mutation.caller.subject,
            request_id=request_id,
        )
        return key, await self.add(OPERATION, operation)

    async def _create_instance(
        self, caller: conductor_pb2.Caller, wish: instance_pb2.CreateInstanceRequest
    ) -> Key:
        for kind, row_id, field in (
            (FLAVOR, wish.flavor_id, "flavor_id"),
            (IMAGE, wish.image_id, "image_id"),
        ):
            row = self.rows.get((kind, row_id))
            if row is None or row.deleted or not sees(caller, row):
                noun = field.removesuffix("_id")
                raise Invalid(
                    f"{noun.upper()}_NOT_FOUND", f"there is no {noun} {row_id}", field=field
                )
        self._refuse_name(INSTANCE, caller.project_id, wish.name)
        return await self.add(
            INSTANCE,
            instance_pb2.Instance(
                name=wish.name,
                project_id=caller.project_id,
                state=instance_pb2.INSTANCE_STATE_REQUESTED,
                task=instance_pb2.INSTANCE_TASK_SCHEDULING,
                power=instance_pb2.INSTANCE_POWER_PENDING,
                flavor_id=wish.flavor_id,
                image_id=wish.image_id,
                labels=wish.labels,
                generation=1,
            ),
        )

    async def _register_image(
        self, caller: conductor_pb2.Caller, wish: conductor_pb2.RegisterImage
    ) -> Key:
        described = wish.description
        self._refuse_name(IMAGE, caller.project_id, described.name)
        image = image_pb2.Image(
            name=described.name,
            project_id=caller.project_id,
            state=image_pb2.IMAGE_STATE_READY,
            kind=described.kind,
            architecture=described.architecture,
            digest=described.digest,
            size_bytes=described.size_bytes,
            min_disk_gib=wish.min_disk_gib,
            visibility=described.visibility,
        )
        public = described.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC
        return await self.add(IMAGE, image, public=public)

    def _refuse_name(self, kind: int, project_id: str, name: str) -> None:
        taken = {
            self.body(*key).name
            for key, row in self.rows.items()
            if key[0] == kind and row.project_id == project_id and not row.deleted
        }
        if name in taken:
            raise AlreadyExists("NAME_TAKEN", f"the name {name} is taken", field="name")

    def _own(self, caller: conductor_pb2.Caller, kind: int, row_id: str) -> Key:
        row = self.rows.get((kind, row_id))
        if row is None or row.deleted or not sees(caller, row):
            name = resource_pb2.ResourceKind.Name(kind).removeprefix("RESOURCE_KIND_")  # type: ignore[arg-type]  # a number
            raise NotFound(f"{name}_NOT_FOUND", f"there is no {name.lower()} {row_id}")
        return kind, row_id


def item_error(error: CloudError) -> conductor_pb2.ItemError:
    """A refusal of one item of a batch."""
    return conductor_pb2.ItemError(
        code=code_of(error),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        field=error.field,
    )
