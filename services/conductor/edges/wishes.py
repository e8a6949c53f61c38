"""Mutations of the internal contract, each handed to the flow that accepts its wish."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stead.internal.v1 import conductor_pb2
from stead.v1 import image_pb2, instance_pb2, quota_pb2

from services.conductor.edges import messages
from services.conductor.flows.accept_cancel import CancelAcceptor
from services.conductor.flows.accept_catalog import CatalogAcceptor, NewImage
from services.conductor.flows.accept_evacuate import EvacuationAcceptor
from services.conductor.flows.accept_guest import GuestAcceptor, GuestOnHost
from services.conductor.flows.accept_host import HostAcceptor
from services.conductor.flows.accept_instance import InstanceAcceptor, InstanceChanges, NewInstance
from services.conductor.flows.accept_power import PowerAcceptor
from services.conductor.flows.accept_project import ProjectAcceptor
from services.conductor.flows.answer import Accepted, Asked
from services.domain.errors import Invalid
from services.domain.instance import Action
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts, Resources

GRACE_S = 60

Answer = Awaitable[Accepted]


@dataclass(frozen=True, slots=True)
class Acceptors:
    """Who accepts what."""

    instances: InstanceAcceptor
    power: PowerAcceptor
    catalog: CatalogAcceptor
    projects: ProjectAcceptor
    hosts: HostAcceptor
    guests: GuestAcceptor
    evacuations: EvacuationAcceptor
    cancels: CancelAcceptor


def accept(acceptors: Acceptors, mutation: conductor_pb2.Mutation) -> Answer:
    """The flow that accepts this wish, to be awaited. Raises Invalid (WISH_MISSING)."""
    method = mutation.WhichOneof("wish") or ""
    if method not in _WISHES:
        raise Invalid("WISH_MISSING", "the mutation says nothing")
    wish: Any = getattr(mutation, method)
    return _WISHES[method](acceptors, _asked(mutation, method, wish), wish)


def is_dry(mutation: conductor_pb2.Mutation) -> bool:
    """Whether it is only to be checked."""
    method = mutation.WhichOneof("wish") or ""
    if not method:
        return False
    return _is_dry(method, getattr(mutation, method))


def _is_dry(method: str, wish: Any) -> bool:
    if method == "register_image":
        return bool(wish.validate_only or wish.description.validate_only)
    told = wish.create if method == "batched_create" else wish
    return bool(told.validate_only)


def _asked(mutation: conductor_pb2.Mutation, method: str, wish: Any) -> Asked:
    told = wish.create if method == "batched_create" else wish
    request = wish.description if method == "register_image" else told
    dry = _is_dry(method, wish)
    batched = method == "batched_create"
    left_ms = mutation.time_left_ms
    return Asked(
        messages.caller_from(mutation.caller),
        method,
        request.request_id,
        wish.fingerprint if batched else _fingerprint(request),
        validate_only=dry,
        trace=messages.trace_of(mutation.trace),
        deadline=asyncio.get_running_loop().time() + left_ms / 1000 if left_ms > 0 else None,
    )


def _fingerprint(request: Any) -> bytes:
    """SHA-256 of what is wished; a dry run of a wish is the same wish."""
    if request.validate_only:
        wished = type(request)()
        wished.CopyFrom(request)
        wished.validate_only = False
        request = wished
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def _create_instance(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    return to.instances.create(asked, _new_instance(wish))


def _batched_create(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    return to.instances.create_of_batch(asked, _new_instance(wish.create), wish.index)


def _new_instance(wish: instance_pb2.CreateInstanceRequest) -> NewInstance:
    return NewInstance(
        wish.name,
        wish.flavor_id,
        wish.image_id,
        dict(wish.labels),
        tuple(wish.ssh_public_keys),
        wish.user_data,
        tuple(wish.key_pair_ids),
    )


def _update_instance(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    changes = InstanceChanges(
        wish.name, dict(wish.labels), tuple(wish.update_mask.paths), wish.etag
    )
    return to.instances.update(asked, wish.id, changes)


def _stop_instance(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    return to.power.switch(asked, wish.id, Action.STOP, grace_s=_grace_s(wish))


def _reboot_instance(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    if wish.kind == instance_pb2.REBOOT_KIND_HARD:
        return to.power.switch(asked, wish.id, Action.HARD_REBOOT)
    return to.power.switch(asked, wish.id, Action.REBOOT, grace_s=_grace_s(wish))


def _switch(action: Action) -> Callable[[Acceptors, Asked, Any], Answer]:
    return lambda to, asked, wish: to.power.switch(asked, wish.id, action)


def _grace_s(wish: Any) -> int:
    """Whole seconds, a begun one counted; unset means a minute."""
    if not wish.HasField("timeout"):
        return GRACE_S
    return wish.timeout.seconds + (wish.timeout.nanos > 0)  # type: ignore[no-any-return]  # a message of any kind


def _create_flavor(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    size = Resources(wish.vcpus, wish.memory_mib, wish.disk_gib)
    return to.catalog.create_flavor(asked, wish.name, size)


def _register_image(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    described = wish.description
    new = NewImage(
        described.name,
        messages.image_reference_from(described),
        wish.min_disk_gib,
        described.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC,
    )
    return to.catalog.register_image(asked, new)


def _update_project(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    mask = tuple(wish.update_mask.paths)
    return to.projects.update(asked, wish.id, wish.display_name, mask=mask, etag=wish.etag)


def _update_quota(to: Acceptors, asked: Asked, wish: Any) -> Answer:
    mask = tuple(wish.update_mask.paths)
    limits = _amounts_from(wish.limits)
    return to.projects.limit(asked, wish.project_id, limits, mask=mask, etag=wish.etag)


def _amounts_from(message: quota_pb2.QuotaAmounts) -> QuotaAmounts:
    return QuotaAmounts(message.instances, message.vcpus, message.memory_mib, message.disk_gib)


_WISHES: dict[str, Callable[[Acceptors, Asked, Any], Answer]] = {
    "create_instance": _create_instance,
    "batched_create": _batched_create,
    "update_instance": _update_instance,
    "start_instance": _switch(Action.START),
    "stop_instance": _stop_instance,
    "reboot_instance": _reboot_instance,
    "pause_instance": _switch(Action.PAUSE),
    "unpause_instance": _switch(Action.UNPAUSE),
    "suspend_instance": _switch(Action.SUSPEND),
    "resume_instance": _switch(Action.RESUME),
    "delete_instance": lambda to, asked, wish: to.instances.delete(asked, wish.id),
    "cancel_operation": lambda to, asked, wish: to.cancels.cancel(asked, wish.id),
    "create_flavor": _create_flavor,
    "delete_flavor": lambda to, asked, wish: to.catalog.delete(asked, ResourceKind.FLAVOR, wish.id),
    "register_image": _register_image,
    "delete_image": lambda to, asked, wish: to.catalog.delete(asked, ResourceKind.IMAGE, wish.id),
    "create_key_pair": lambda to, asked, wish: to.catalog.create_key_pair(
        asked, wish.name, wish.public_key
    ),
    "delete_key_pair": lambda to, asked, wish: to.catalog.delete(
        asked, ResourceKind.KEY_PAIR, wish.id
    ),
    "create_project": lambda to, asked, wish: to.projects.create(asked, wish.id, wish.display_name),
    "update_project": _update_project,
    "delete_project": lambda to, asked, wish: to.projects.delete(asked, wish.id),
    "update_quota": _update_quota,
    "enable_host": lambda to, asked, wish: to.hosts.enable(asked, wish.id),
    "fence_host": lambda to, asked, wish: to.hosts.fence(asked, wish.id, wish.reason),
    "remove_host": lambda to, asked, wish: to.hosts.remove(asked, wish.id),
    "evacuate_instance": lambda to, asked, wish: to.evacuations.evacuate(asked, wish.id),
    "disable_host": lambda to, asked, wish: to.hosts.disable(asked, wish.id, wish.reason),
    "discard_guest": lambda to, asked, wish: to.guests.discard(
        asked, GuestOnHost(wish.host_id, wish.instance_id, wish.epoch)
    ),
}
