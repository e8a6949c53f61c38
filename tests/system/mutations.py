"""A request of every public mutation, each made so that it would be accepted, and the stage on
which it is sent: a cloud with two replicas of api.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
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

from services.runtime.ids import new_id
from tests.clouds import Cloud
from tests.dead_hosts import dead_host, strand

FILES = (
    audit_pb2, flavor_pb2, host_pb2, image_pb2, instance_pb2, key_pair_pb2, operation_pb2,
    project_pb2, quota_pb2,
)  # fmt: skip
PATIENCE_S = 120.0
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f someone"


def mutations() -> Iterator[MethodDescriptor]:
    """Every public method that takes a request id, in the request or in a stream's first one."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                parts = [field.message_type for field in method.input_type.fields]
                first = [part for part in parts if part] if method.client_streaming else []
                if any("request_id" in t.fields_by_name for t in [method.input_type, *first]):
                    yield method


MUTATIONS = {method.name: method for method in mutations()}


@dataclass
class Stage:
    """A cloud with two replicas of api, a channel to each."""

    cloud: Cloud
    channels: list[grpc.aio.Channel]
    flavor_id: str = ""
    image_id: str = ""

    def name(self) -> str:
        return f"i-{new_id()}"

    async def call(self, name: str, request: Any, replica: int = 0) -> Any:
        """One call at one replica; again while no one answers. An upload's request is the list of
        its messages.
        """
        method = MUTATIONS.get(name) or _method(name)
        channel = self.channels[replica]
        kind = channel.stream_unary if method.client_streaming else channel.unary_unary
        call = kind(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        metadata = (("authorization", f"Bearer {self.cloud.token()}"),)
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await call(request, metadata=metadata, timeout=30, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(0.2)

    async def instance(self, *, active: bool = True) -> str:
        """A new instance, ACTIVE unless it shall wait for a host for ever."""
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=self.name(), flavor_id=self.flavor_id, image_id=self.image_id
        )
        answer = await self.call("CreateInstance", request)
        if active:
            await self.ended(answer.operation.id)
        return str(answer.instance.id)

    async def ended(self, operation_id: str) -> operation_pb2.Operation:
        request = operation_pb2.WaitOperationRequest(id=operation_id)
        request.timeout.FromSeconds(25)
        for _ in range(10):
            answer = await self.call("WaitOperation", request)
            if answer.operation.state != operation_pb2.OPERATION_STATE_RUNNING:
                return answer.operation
        raise AssertionError(f"operation {operation_id} did not end")


def _method(name: str) -> MethodDescriptor:
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            if name in service.methods_by_name:
                return service.methods_by_name[name]
    raise AssertionError(name)


def upload(content: bytes) -> list[image_pb2.ImportImageRequest]:
    """The messages that make an image from these bytes."""
    description = image_pb2.ImageDescription(
        request_id=new_id(),
        name=f"g{new_id()[-12:]}",
        kind=image_pb2.IMAGE_KIND_KERNEL,
        architecture=image_pb2.ARCHITECTURE_X86_64,
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    return [
        image_pb2.ImportImageRequest(description=description),
        image_pb2.ImportImageRequest(chunk=content),
    ]


async def imported(stage: Stage, content: bytes) -> str:
    """The id of an image made from these bytes."""
    return str((await stage.call("ImportImage", upload(content))).image.id)


def asked(request: Any) -> Any:
    """The message of a request that has its request id."""
    return request[0].description if isinstance(request, list) else request


async def example(stage: Stage, name: str) -> Any:  # noqa: C901, PLR0911, PLR0912, PLR0915  # one line for each mutation
    """A request of this mutation that would be accepted now."""
    id_ = new_id()
    pb = instance_pb2
    match name:
        case "CreateInstance":
            return pb.CreateInstanceRequest(
                request_id=id_,
                name=stage.name(),
                flavor_id=stage.flavor_id,
                image_id=stage.image_id,
            )
        case "BatchCreateInstances":
            wishes = [
                pb.NewInstance(
                    name=stage.name(), flavor_id=stage.flavor_id, image_id=stage.image_id
                )
                for _ in range(3)
            ]
            return pb.BatchCreateInstancesRequest(request_id=id_, instances=wishes)
        case "UpdateInstance":
            return pb.UpdateInstanceRequest(
                request_id=id_, id=await stage.instance(), labels={"a": "b"},
                update_mask=FieldMask(paths=["labels"]),
            )  # fmt: skip
        case "StartInstance":
            instance_id = await stage.instance()
            stop = pb.StopInstanceRequest(request_id=new_id(), id=instance_id)
            await stage.ended((await stage.call("StopInstance", stop)).operation.id)
            return pb.StartInstanceRequest(request_id=id_, id=instance_id)
        case "StopInstance":
            return pb.StopInstanceRequest(request_id=id_, id=await stage.instance())
        case "RebootInstance" | "PauseInstance" | "SuspendInstance":
            return getattr(pb, f"{name}Request")(request_id=id_, id=await stage.instance())
        case "UnpauseInstance" | "ResumeInstance":
            instance_id = await stage.instance()
            held = "PauseInstance" if name == "UnpauseInstance" else "SuspendInstance"
            hold = getattr(pb, f"{held}Request")(request_id=new_id(), id=instance_id)
            await stage.ended((await stage.call(held, hold)).operation.id)
            return getattr(pb, f"{name}Request")(request_id=id_, id=instance_id)
        case "DeleteInstance":
            return pb.DeleteInstanceRequest(request_id=id_, id=await stage.instance())
        case "CancelOperation":
            return operation_pb2.CancelOperationRequest(request_id=id_, id=await waiting(stage))
        case "CreateFlavor":
            return flavor_pb2.CreateFlavorRequest(
                request_id=id_, name=f"n{id_[-12:]}", vcpus=1, memory_mib=64, disk_gib=1
            )
        case "DeleteFlavor":
            made = await stage.call("CreateFlavor", await example(stage, "CreateFlavor"))
            return flavor_pb2.DeleteFlavorRequest(request_id=id_, id=made.flavor.id)
        case "ImportImage":
            return upload(_another_tar(id_))
        case "DeleteImage":
            image_id = await imported(stage, _another_tar(id_))
            return image_pb2.DeleteImageRequest(request_id=id_, id=image_id)
        case "CreateKeyPair":
            return key_pair_pb2.CreateKeyPairRequest(
                request_id=id_, name=f"k{id_[-12:]}", public_key=KEY
            )
        case "DeleteKeyPair":
            kept = await stage.call("CreateKeyPair", await example(stage, "CreateKeyPair"))
            return key_pair_pb2.DeleteKeyPairRequest(request_id=id_, id=kept.key_pair.id)
        case "EnableHost" | "DisableHost":
            request = getattr(host_pb2, f"{name}Request")(request_id=id_, id=_host(stage))
            if name == "DisableHost":
                request.reason = "for a test"
            return request
        case "DiscardGuest":
            return audit_pb2.DiscardGuestRequest(
                request_id=id_, host_id=_host(stage), instance_id=quarantined(stage), epoch=1
            )
        case "FenceHost" | "RemoveHost":
            request = getattr(host_pb2, f"{name}Request")(
                request_id=id_, id=dead_host(stage.cloud.sql)
            )
            if name == "FenceHost":
                request.reason = "for a test"
            return request
        case "EvacuateInstance":
            return pb.EvacuateInstanceRequest(request_id=id_, id=await stranded(stage))
        case "CreateProject":
            return project_pb2.CreateProjectRequest(request_id=id_, id=f"p-{id_[-12:]}")
        case "UpdateProject" | "DeleteProject":
            made = await stage.call("CreateProject", await example(stage, "CreateProject"))
            request = getattr(project_pb2, f"{name}Request")(request_id=id_, id=made.project.id)
            if name == "UpdateProject":
                request.display_name = "Changed"
                request.update_mask.paths.append("display_name")
            return request
        case "UpdateQuota":
            return quota_pb2.UpdateQuotaRequest(
                request_id=id_, project_id=f"q-{id_[-12:]}",
                limits=quota_pb2.QuotaAmounts(instances=5),
                update_mask=FieldMask(paths=["instances"]),
            )  # fmt: skip
    raise AssertionError(f"{name} has no example here: write one")


def _another_tar(word: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("kernel", "initrd", "cmdline"):
            entry = tarfile.TarInfo(name)
            entry.size = len(word) + 1
            archive.addfile(entry, io.BytesIO(word.encode() + b"\n"))
    return content.getvalue()


async def stranded(stage: Stage) -> str:
    """An instance that a host holds which is dead and fenced; its id."""
    instance_id = await stage.instance()
    strand(stage.cloud.sql, instance_id)
    return instance_id


def _host(stage: Stage) -> str:
    hosts = stage.cloud.json("host", "list")
    return str(hosts[0]["id"])


def quarantined(stage: Stage) -> str:
    """The instance id of a guest that nobody claims: its host is said to have told of one."""
    instance_id = new_id()
    stage.cloud.sql(
        "INSERT INTO guest (host_id, instance_id, epoch, applied_generation, power)"
        f" VALUES ('{_host(stage)}', '{instance_id}', 1, 1, 2)"
    )
    return instance_id


async def waiting(stage: Stage) -> str:
    """The operation of an instance that waits for a host for as long as the scheduler is held."""
    [scheduler] = stage.cloud.services()["scheduler"]
    os.kill(int(scheduler["pid"]), signal.SIGSTOP)
    request = await example(stage, "CreateInstance")
    return str((await stage.call("CreateInstance", request)).operation.id)
