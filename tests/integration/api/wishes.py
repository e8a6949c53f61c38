"""One valid wish of each kind, with the things that it is about, and how it is sent."""

import base64
import hashlib
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass
from stead.v1 import instance_pb2, quota_pb2

from services.api.edges.servers import SERVICES
from tests.dead_hosts import Sql, dead_host, strand
from tests.integration.api.cloud import User, new_id
from tests.integration.api.uploads import description, parts

MUTATIONS = {
    method.name: method
    for name in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(name).methods
    if method.GetOptions().idempotency_level == MethodOptions.IDEMPOTENT
}


@dataclass(frozen=True)
class Ground:
    """Who wishes, and what there is to wish about. `active` brings an instance there, `turned` to
    the state after a method of the power switch; `host_id` names a host. `sql` is the way into a
    real conductor's database.
    """

    user: User
    admin: User
    flavor_id: str
    image_id: str
    host_id: str
    active: Callable[[str], Awaitable[None]]
    turned: Callable[[str, str], Awaitable[None]]
    sql: Sql | None = None


@dataclass(frozen=True)
class Wish:
    """One request of one method by one user; `content` is what an upload sends."""

    user: User
    method: str
    request: Any
    content: bytes = b""

    async def send(self, *, validate_only: bool = False) -> Any:
        """The answer."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.validate_only = validate_only
        if self.method == "ImportImage":
            content = b"" if validate_only else self.content
            return await self.user.ImportImage(parts(request, content))
        return await getattr(self.user, self.method)(request)


def public_key() -> str:
    """A key of its own, in OpenSSH's one-line form."""
    blob = b"".join(
        struct.pack(">I", len(part)) + part
        for part in (b"ssh-ed25519", hashlib.sha256(new_id().encode()).digest())
    )
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} somebody"


async def instance(ground: Ground) -> Any:
    """A new instance with its operation."""
    request = instance_pb2.CreateInstanceRequest(
        request_id=new_id(),
        name=f"i-{new_id()}",
        flavor_id=ground.flavor_id,
        image_id=ground.image_id,
    )
    return await ground.user.CreateInstance(request)


async def _made(ground: Ground, method: str) -> Any:
    return await (await wish_of(method, ground)).send()


async def _new(ground: Ground, word: str) -> dict[str, Any]:
    return {"name": f"i-{word}", "flavor_id": ground.flavor_id, "image_id": ground.image_id}


async def _batch(ground: Ground, word: str) -> dict[str, Any]:
    return {"instances": [await _new(ground, f"{word}-{number}") for number in range(3)]}


async def _one(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": (await instance(ground)).instance.id}


async def _active(ground: Ground, word: str) -> dict[str, Any]:
    given = await _one(ground, word)
    await ground.active(given["id"])
    return given


def _after(method: str) -> Callable[[Ground, str], Awaitable[dict[str, Any]]]:
    async def turned(ground: Ground, word: str) -> dict[str, Any]:
        given = await _one(ground, word)
        await ground.turned(given["id"], method)
        return given

    return turned


async def _update(ground: Ground, word: str) -> dict[str, Any]:
    mask = FieldMask(paths=["name"])
    return {**await _one(ground, word), "name": f"new-{word}", "update_mask": mask}


async def _cancel(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": (await instance(ground)).operation.id}


async def _size(ground: Ground, word: str) -> dict[str, Any]:
    return {"name": f"f-{word}", "vcpus": 1, "memory_mib": 64, "disk_gib": 1}


async def _host(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": ground.host_id}


async def _closed_host(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": ground.host_id, "reason": "a new disk"}


async def _dead_host(ground: Ground, word: str) -> dict[str, Any]:
    return {**await _gone_host(ground, word), "reason": "a fire"}


async def _gone_host(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": dead_host(ground.sql) if ground.sql else ground.host_id}


async def _stranded(ground: Ground, word: str) -> dict[str, Any]:
    given = await _active(ground, word)
    if ground.sql:
        strand(ground.sql, given["id"])
    return given


async def _key(ground: Ground, word: str) -> dict[str, Any]:
    return {"name": f"k-{word}", "public_key": public_key()}


async def _project(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": f"p-{word}", "display_name": "A project"}


async def _known_project(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": (await _made(ground, "CreateProject")).project.id}


async def _words(ground: Ground, word: str) -> dict[str, Any]:
    mask = FieldMask(paths=["display_name"])
    known = await _known_project(ground, word)
    return {**known, "display_name": "Another word", "update_mask": mask}


async def _guest(ground: Ground, word: str) -> dict[str, Any]:
    instance_id = new_id()
    if ground.sql is not None:
        ground.sql(
            "INSERT INTO guest (host_id, instance_id, epoch, applied_generation, power)"
            f" VALUES ('{ground.host_id}', '{instance_id}', 7, 1, 2)"
        )
    return {"host_id": ground.host_id, "instance_id": instance_id, "epoch": 7}


async def _limits(ground: Ground, word: str) -> dict[str, Any]:
    limits, mask = quota_pb2.QuotaAmounts(instances=7), FieldMask(paths=["instances"])
    return {"project_id": f"p-{word}", "limits": limits, "update_mask": mask}


async def _made_flavor(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": (await _made(ground, "CreateFlavor")).flavor.id}


async def _made_image(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": (await _made(ground, "ImportImage")).image.id}


async def _made_key(ground: Ground, word: str) -> dict[str, Any]:
    return {"id": (await _made(ground, "CreateKeyPair")).key_pair.id}


_GIVEN: dict[str, Callable[[Ground, str], Awaitable[dict[str, Any]]]] = {
    "CreateInstance": _new,
    "BatchCreateInstances": _batch,
    "UpdateInstance": _update,
    "StartInstance": _after("StopInstance"),
    "PauseInstance": _active,
    "UnpauseInstance": _after("PauseInstance"),
    "SuspendInstance": _active,
    "ResumeInstance": _after("SuspendInstance"),
    "StopInstance": _active,
    "RebootInstance": _active,
    "DeleteInstance": _one,
    "CancelOperation": _cancel,
    "CreateFlavor": _size,
    "DeleteFlavor": _made_flavor,
    "DeleteImage": _made_image,
    "EnableHost": _host,
    "DisableHost": _closed_host,
    "DiscardGuest": _guest,
    "FenceHost": _dead_host,
    "RemoveHost": _gone_host,
    "EvacuateInstance": _stranded,
    "CreateKeyPair": _key,
    "DeleteKeyPair": _made_key,
    "CreateProject": _project,
    "UpdateProject": _words,
    "DeleteProject": _known_project,
    "UpdateQuota": _limits,
}


async def wish_of(method: str, ground: Ground) -> Wish:
    """A wish that would be granted, each time another one."""
    if method == "ImportImage":
        content = os.urandom(100_000)
        return Wish(ground.user, method, description(content), content)
    given = await _GIVEN[method](ground, new_id()[:13])
    request = GetMessageClass(MUTATIONS[method].input_type)(request_id=new_id(), **given)
    return Wish(_user_of(method, ground), method, request)


def _user_of(method: str, ground: Ground) -> User:
    of_admins = ("Flavor", "Guest", "Host", "Project", "Quota")
    of_admin = method.endswith(of_admins) or method == "EvacuateInstance"
    return ground.admin if of_admin else ground.user
