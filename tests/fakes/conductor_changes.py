"""What each kind of wish changes, in a conductor in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stead.internal.v1 import conductor_pb2, resource_pb2
from stead.v1 import (
    audit_pb2,
    flavor_pb2,
    host_pb2,
    image_pb2,
    instance_pb2,
    key_pair_pb2,
    operation_pb2,
    project_pb2,
    quota_pb2,
)

from services.domain.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    NoCapacity,
    NotFound,
    WrongState,
)
from services.domain.etag import etag_of
from services.domain.instance import ASKED, Action, Illegal, Standing, State, Task, after
from services.domain.operation import OperationAction, OperationState, Phase, is_cancellable
from tests.fakes.conductor_rows import (
    FLAVOR,
    HOST,
    IMAGE,
    INSTANCE,
    KEY_PAIR,
    OPERATION,
    PROJECT,
    UNLIMITED,
    Key,
    Rows,
    sees,
)

Caller = conductor_pb2.Caller


@dataclass(frozen=True)
class Done:
    """The row that a wish changed, and what its operation is like; action 0: no operation."""

    key: Key
    action: int = 0
    phase: int = Phase.ENDED

    def operation(self, **fields: Any) -> operation_pb2.Operation:
        """The operation."""
        ended = self.phase == Phase.ENDED
        return operation_pb2.Operation(
            action=self.action,  # type: ignore[arg-type]  # the same numbers
            phase=self.phase,  # type: ignore[arg-type]  # the same numbers
            state=OperationState.DONE if ended else OperationState.RUNNING,  # type: ignore[arg-type]  # the same numbers
            resource_id=self.key[1],
            **fields,
        )


class Changes(Rows):
    """One method per kind of wish."""

    async def carried_out(self, caller: Caller, wish: Any) -> Done:
        """Changes rows, or raises the refusal."""
        does: dict[type, Callable[[Caller, Any], Awaitable[Done]]] = {
            instance_pb2.CreateInstanceRequest: self._create_instance,
            instance_pb2.UpdateInstanceRequest: self._update_instance,
            instance_pb2.StartInstanceRequest: self._act,
            instance_pb2.StopInstanceRequest: self._act,
            instance_pb2.RebootInstanceRequest: self._act,
            instance_pb2.PauseInstanceRequest: self._act,
            instance_pb2.UnpauseInstanceRequest: self._act,
            instance_pb2.SuspendInstanceRequest: self._act,
            instance_pb2.ResumeInstanceRequest: self._act,
            instance_pb2.DeleteInstanceRequest: self._act,
            operation_pb2.CancelOperationRequest: self._cancel,
            flavor_pb2.CreateFlavorRequest: self._create_flavor,
            flavor_pb2.DeleteFlavorRequest: self._delete,
            conductor_pb2.RegisterImage: self._register_image,
            image_pb2.DeleteImageRequest: self._delete,
            host_pb2.EnableHostRequest: self._switch_host,
            host_pb2.DisableHostRequest: self._switch_host,
            host_pb2.FenceHostRequest: self._lose_host,
            host_pb2.RemoveHostRequest: self._lose_host,
            instance_pb2.EvacuateInstanceRequest: self._evacuate,
            audit_pb2.DiscardGuestRequest: self._discard_guest,
            key_pair_pb2.CreateKeyPairRequest: self._create_key_pair,
            key_pair_pb2.DeleteKeyPairRequest: self._delete,
            project_pb2.CreateProjectRequest: self._create_project,
            project_pb2.UpdateProjectRequest: self._update_project,
            project_pb2.DeleteProjectRequest: self._delete,
            quota_pb2.UpdateQuotaRequest: self._update_quota,
        }
        return await does[type(wish)](caller, wish)

    async def _create_instance(self, caller: Caller, wish: Any) -> Done:
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
        self._refuse_quota(caller.project_id)
        instance = instance_pb2.Instance(
            name=wish.name,
            project_id=caller.project_id,
            state=instance_pb2.INSTANCE_STATE_REQUESTED,
            task=instance_pb2.INSTANCE_TASK_SCHEDULING,
            power=instance_pb2.INSTANCE_POWER_PENDING,
            flavor_id=wish.flavor_id,
            image_id=wish.image_id,
            labels=wish.labels,
            generation=1,
        )
        key = await self.add(INSTANCE, instance)
        return Done(key, OperationAction.CREATE_INSTANCE, Phase.PLACING)

    async def _update_instance(self, caller: Caller, wish: Any) -> Done:
        key = self._own(caller, INSTANCE, wish.id)
        _refuse_etag(wish.etag, self.rows[key])
        self._refuse_standing(key, Action.UPDATE)
        message = self.body(*key)
        if {"name", "*"} & set(wish.update_mask.paths):
            if message.name != wish.name:
                self._refuse_name(INSTANCE, message.project_id, wish.name)
            message.name = wish.name
        if {"labels", "*"} & set(wish.update_mask.paths):
            message.labels.clear()
            message.labels.update(wish.labels)
        await self.commit(INSTANCE, message)
        return Done(key, OperationAction.UPDATE_INSTANCE)

    async def _act(self, caller: Caller, wish: Any) -> Done:
        word = type(wish).__name__.removesuffix("InstanceRequest").upper()
        key = self._own(caller, INSTANCE, wish.id)
        following = self._refuse_standing(key, Action[word])
        await self.change_instance(key[1], task=following.task.value)
        phase = "REMOVING" if word == "DELETE" else following.task.name
        return Done(key, OperationAction[f"{word}_INSTANCE"], Phase[phase])

    async def _cancel(self, caller: Caller, wish: Any) -> Done:
        key = self._own(caller, OPERATION, wish.id)
        message = self.body(*key)
        running = message.state == operation_pb2.OPERATION_STATE_RUNNING
        at = (OperationAction(message.action), Phase(message.phase))
        if not running or not is_cancellable(*at):
            raise WrongState("OPERATION_NOT_CANCELLABLE", "too much of it is done already")
        message.error.reason = "CANCELLED_BY_CALLER"
        message.phase = operation_pb2.OPERATION_PHASE_ENDED
        message.state = operation_pb2.OPERATION_STATE_CANCELLED
        await self.commit(OPERATION, message)
        await self.change_instance(message.resource_id, state=instance_pb2.INSTANCE_STATE_DELETED)
        return Done(key)

    async def _create_flavor(self, caller: Caller, wish: Any) -> Done:
        self._refuse_name(FLAVOR, "", wish.name)
        flavor = flavor_pb2.Flavor(
            name=wish.name, vcpus=wish.vcpus, memory_mib=wish.memory_mib, disk_gib=wish.disk_gib
        )
        return Done(await self.add(FLAVOR, flavor), OperationAction.CREATE_FLAVOR)

    async def _register_image(self, caller: Caller, wish: Any) -> Done:
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
        return Done(await self.add(IMAGE, image, public=public), OperationAction.IMPORT_IMAGE)

    async def _switch_host(self, caller: Caller, wish: Any) -> Done:
        key = self._own(caller, HOST, wish.id)
        message = self.body(*key)
        message.disabled_reason = getattr(wish, "reason", "")
        message.enabled = not message.disabled_reason
        await self.commit(HOST, message, ledger=self.rows[key].ledger)
        word = "ENABLE" if message.enabled else "DISABLE"
        return Done(key, OperationAction[f"{word}_HOST"])

    async def _lose_host(self, caller: Caller, wish: Any) -> Done:
        key = self._own(caller, HOST, wish.id)
        message = self.body(*key)
        message.state = host_pb2.HOST_STATE_DOWN
        await self.commit(HOST, message, ledger=self.rows[key].ledger)
        word = type(wish).__name__.removesuffix("HostRequest").upper()
        return Done(key, OperationAction[f"{word}_HOST"])

    async def _evacuate(self, caller: Caller, wish: Any) -> Done:
        key = self._own(caller, INSTANCE, wish.id)
        await self.change_instance(key[1], task=instance_pb2.INSTANCE_TASK_EVACUATING)
        return Done(key, OperationAction.EVACUATE_INSTANCE, Phase.PLACING)

    async def _discard_guest(self, caller: Caller, wish: Any) -> Done:
        return Done(self._own(caller, HOST, wish.host_id), OperationAction.DISCARD_GUEST)

    async def _create_key_pair(self, caller: Caller, wish: Any) -> Done:
        self._refuse_name(KEY_PAIR, caller.project_id, wish.name)
        key_pair = key_pair_pb2.KeyPair(
            name=wish.name, project_id=caller.project_id, public_key=wish.public_key
        )
        return Done(await self.add(KEY_PAIR, key_pair), OperationAction.CREATE_KEY_PAIR)

    async def _create_project(self, caller: Caller, wish: Any) -> Done:
        known = self.rows.get((PROJECT, wish.id))
        if known is not None and not known.deleted:
            raise AlreadyExists("NAME_TAKEN", f"there is a project {wish.id}", field="id")
        project = project_pb2.Project(id=wish.id, display_name=wish.display_name)
        quota = resource_pb2.QuotaLedger(limits=UNLIMITED)
        await self.commit(PROJECT, project, quota=quota)
        return Done((PROJECT, wish.id), OperationAction.CREATE_PROJECT)

    async def _update_project(self, caller: Caller, wish: Any) -> Done:
        key = self._own(caller, PROJECT, wish.id)
        _refuse_etag(wish.etag, self.rows[key])
        message = self.body(*key)
        message.display_name = wish.display_name
        await self.commit(PROJECT, message, quota=self.rows[key].quota)
        return Done(key, OperationAction.UPDATE_PROJECT)

    async def _update_quota(self, caller: Caller, wish: Any) -> Done:
        key = (PROJECT, wish.project_id)
        quota = resource_pb2.QuotaLedger(limits=UNLIMITED)
        message = project_pb2.Project(id=wish.project_id)
        if key in self.rows:
            _refuse_etag(wish.etag, self.rows[key])
            quota, message = self.rows[key].quota, self.body(*key)
        for field in ("instances", "vcpus", "memory_mib", "disk_gib"):
            if {field, "*"} & set(wish.update_mask.paths):
                setattr(quota.limits, field, getattr(wish.limits, field))
        await self.commit(PROJECT, message, quota=quota)
        return Done(key, OperationAction.UPDATE_QUOTA)

    async def _delete(self, caller: Caller, wish: Any) -> Done:
        word = type(wish).__name__.removeprefix("Delete").removesuffix("Request")
        kinds = {"Flavor": FLAVOR, "Image": IMAGE, "KeyPair": KEY_PAIR, "Project": PROJECT}
        key = self._own(caller, kinds[word], wish.id)
        if word == "Project" and self.used_of(wish.id).instances:
            raise WrongState("PROJECT_NOT_EMPTY", "the project has instances")
        await self.commit(key[0], self.body(*key), deleted=True, quota=self.rows[key].quota)
        name = "KEY_PAIR" if word == "KeyPair" else word.upper()
        return Done(key, OperationAction[f"DELETE_{name}"])

    def _refuse_standing(self, key: Key, action: Action) -> Standing:
        message = self.body(*key)
        standing = Standing(State(message.state), Task(message.task))
        following = after(standing, ASKED[action])
        if isinstance(following, Illegal):
            metadata = {
                "state": standing.state.name,
                "task": standing.task.name,
                "action": action.name,
            }
            raise WrongState(following.reason, following.message, metadata=metadata)
        return following

    def _refuse_quota(self, project_id: str) -> None:
        row = self.rows.get((PROJECT, project_id))
        if row is None:
            return
        used = self.used_of(project_id).instances
        if 0 <= row.quota.limits.instances <= used:
            raise NoCapacity(
                "QUOTA_EXCEEDED",
                "the quota of the project does not admit it",
                metadata={
                    "instances_limit": str(row.quota.limits.instances),
                    "instances_used": str(used),
                    "instances_asked": "1",
                },
            )

    def _refuse_name(self, kind: int, project_id: str, name: str) -> None:
        if any(message.name == name for message in self.living(kind, project_id)):
            raise AlreadyExists("NAME_TAKEN", f"the name {name} is taken", field="name")

    def _own(self, caller: Caller, kind: int, row_id: str) -> Key:
        row = self.rows.get((kind, row_id))
        if row is None or row.deleted or not sees(caller, row):
            name = resource_pb2.ResourceKind.Name(kind).removeprefix("RESOURCE_KIND_")  # type: ignore[arg-type]  # a number
            raise NotFound(f"{name}_NOT_FOUND", f"there is no {name.lower()} {row_id}")
        return kind, row_id


def _refuse_etag(etag: str, row: resource_pb2.Resource) -> None:
    if etag and etag != etag_of(row.id, row.version):
        raise Conflict("ETAG_MISMATCH", "it was changed since it was read", field="etag")
