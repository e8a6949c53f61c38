"""A small program that uses stead as a stranger would, with nothing but its contract: it makes an
instance, follows it through forced reconnects, is refused in four ways, renames it, removes it.

It ends with 0 only if everything was as promised; its last line says in JSON what it saw.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import duration_pb2, field_mask_pb2
from stead.v1 import flavor_pb2, image_pb2, instance_pb2, operation_pb2, quota_pb2

from stead_client import Cloud, Door, Watch, refusal_of

PATIENCE_S = 120.0


class NotAsPromised(Exception):
    """What was promised and not kept."""


def promised(holds: object, what: str) -> None:
    """Raises NotAsPromised unless it holds."""
    if not holds:
        raise NotAsPromised(what)


class Journal:
    """Keeps every change that a watch hands over, and complains of a repeated or missing one."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._heard = threading.Condition()
        self._ready = False
        self._revision = 0
        self._versions: dict[str, list[instance_pb2.Instance]] = defaultdict(list)
        self._failed: Exception | None = None
        self._keeping = threading.Thread(target=self._keep, daemon=True)
        self._keeping.start()

    def _keep(self) -> None:
        try:
            for message in self._watch.follow():
                with self._heard:
                    self._take(message)
                    self._heard.notify_all()
        except Exception as error:  # noqa: BLE001  # told to whoever waits, whatever it is
            with self._heard:
                self._failed = error
                self._heard.notify_all()

    def _take(self, message: instance_pb2.WatchInstancesResponse) -> None:
        kind = message.WhichOneof("event")
        promised(message.revision >= self._revision, "revisions that do not go back")
        self._ready = self._ready or kind == "snapshot_done"
        if kind == "change":
            promised(message.revision > self._revision, "each change once")
            instance = message.change.instance
            self._versions[instance.id].append(instance)
            state = instance_pb2.InstanceState.Name(instance.state)
            print(f"version {instance.version} {state} at revision {message.revision}")
        self._revision = message.revision

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        with self._heard:
            self._heard.wait_for(lambda: holds() or self._failed is not None, PATIENCE_S)
            if self._failed is not None:
                raise self._failed
            promised(holds(), what)

    def snapshot(self) -> None:
        """Returns when the snapshot is complete."""
        self._until(lambda: self._ready, "the end of the snapshot")

    def until(self, instance_id: str, state: instance_pb2.InstanceState.ValueType) -> None:
        """Returns when the newest version of an instance has that state."""
        known = self._versions[instance_id]
        self._until(lambda: bool(known) and known[-1].state == state, f"an instance in {state}")

    def seen(self, instance_id: str) -> dict[str, Any]:
        """What was seen of one instance, if that was every version once; ends the watch."""
        self._watch.stop()
        self._keeping.join(PATIENCE_S)
        promised(not self._keeping.is_alive(), "a watch that ends when it is stopped")
        versions = [instance.version for instance in self._versions[instance_id]]
        promised(versions == list(range(1, len(versions) + 1)), f"every version, not {versions}")
        promised(self._watch.reconnects >= len(versions) - 1, "a reconnect after each change")
        states = [instance_pb2.InstanceState.Name(i.state) for i in self._versions[instance_id]]
        return {"versions": versions, "states": states, "reconnects": self._watch.reconnects}


def live(doors: list[Door], flavor: str, image: str) -> dict[str, Any]:
    """Leads one instance through its life and compares with what was promised."""
    cloud = Cloud(doors[0])
    journal = Journal(Watch(doors, cut_each=True))
    journal.snapshot()
    wish = wish_for(cloud, flavor, image)
    instance = create(cloud, wish)
    journal.until(instance.id, instance_pb2.INSTANCE_STATE_ACTIVE)
    reasons = refusals(cloud, wish, instance)
    rename(cloud, instance.id, f"{wish.name}-renamed")
    remove(cloud, instance.id)
    journal.until(instance.id, instance_pb2.INSTANCE_STATE_DELETED)
    work = history(cloud, instance.id)
    cloud.close()
    return {**journal.seen(instance.id), "reasons": reasons, "work": work}


def wish_for(cloud: Cloud, flavor: str, image: str) -> instance_pb2.CreateInstanceRequest:
    """Looks flavor and image up by name and puts a request together."""
    sizes = flavor_pb2.ListFlavorsRequest(filter=f'name = "{flavor}"')
    flavors = cloud.flavors.ListFlavors(sizes, timeout=30).flavors
    named = image_pb2.ListImagesRequest(filter=f'name = "{image}"')
    images = cloud.images.ListImages(named, timeout=30).images
    promised(len(flavors) == len(images) == 1, f"one flavor {flavor} and one image {image}")
    return instance_pb2.CreateInstanceRequest(
        request_id=str(uuid.uuid4()),
        name=f"python-{uuid.uuid4().hex[:8]}",
        flavor_id=flavors[0].id,
        image_id=images[0].id,
        labels={"made-by": "clients/python"},
    )


def create(cloud: Cloud, wish: instance_pb2.CreateInstanceRequest) -> instance_pb2.Instance:
    """Sends the wish twice, as one does who lost the first answer: it is one instance."""
    first, call = cloud.instances.CreateInstance.with_call(wish, timeout=30)
    named = dict(call.trailing_metadata())["x-request-id"]
    promised(first.operation.correlation_id == named, "the name of the call in the operation")
    again = cloud.instances.CreateInstance(wish, timeout=30)
    promised(first.instance.id == again.instance.id, "one instance for one request id")
    promised(first.operation.id == again.operation.id, "one operation for one request id")
    print(f"created {first.instance.name} ({first.instance.id})")
    return first.instance


def refused(
    call: Callable[[], object], code: grpc.StatusCode, reason: str, details: str = "message"
) -> str:
    """The reason with which a call is refused, which must be that one, with its details."""
    try:
        call()
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        print("refused:", refusal)
        promised((refusal.code, refusal.reason) == (code, reason), f"{code.name} {reason}")
        promised(getattr(refusal, details), f"{details} of {reason}")
        return refusal.reason
    raise NotAsPromised(f"to be refused with {reason}")


def refusals(
    cloud: Cloud, wish: instance_pb2.CreateInstanceRequest, instance: instance_pb2.Instance
) -> list[str]:
    """Asks for what stead must refuse, and reads why. The instance is ACTIVE."""
    call, codes = cloud.instances, grpc.StatusCode
    nameless = instance_pb2.CreateInstanceRequest()
    nameless.CopyFrom(wish)
    nameless.request_id, nameless.name = str(uuid.uuid4()), " "
    start = instance_pb2.StartInstanceRequest(request_id=str(uuid.uuid4()), id=instance.id)
    stale = instance_pb2.UpdateInstanceRequest(
        request_id=str(uuid.uuid4()),
        id=instance.id,
        labels={"lost": "update"},
        update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        etag=instance.etag,  # of the version that was just created
    )
    invalid, illegal = codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION
    reasons = [
        refused(lambda: call.CreateInstance(nameless), invalid, "INVALID_FIELD", "fields"),
        refused(
            lambda: call.StartInstance(start), illegal, "INVALID_INSTANCE_STATE", "preconditions"
        ),
        refused(lambda: call.UpdateInstance(stale), codes.ABORTED, "ETAG_MISMATCH"),
    ]
    quota = cloud.quotas.GetQuota(quota_pb2.GetQuotaRequest(), timeout=30).quota
    if 0 <= quota.limits.instances <= quota.used.instances:
        another = instance_pb2.CreateInstanceRequest()
        another.CopyFrom(wish)
        another.request_id, another.name = str(uuid.uuid4()), f"{wish.name}-more"
        full = codes.RESOURCE_EXHAUSTED
        reasons.append(
            refused(lambda: call.CreateInstance(another), full, "QUOTA_EXCEEDED", "quotas")
        )
    return reasons


def rename(cloud: Cloud, instance_id: str, name: str) -> None:
    """Reads, changes and writes; should somebody else have written between, it begins again."""
    while True:
        wanted = instance_pb2.GetInstanceRequest(id=instance_id)
        read = cloud.instances.GetInstance(wanted, timeout=30).instance
        change = instance_pb2.UpdateInstanceRequest(
            request_id=str(uuid.uuid4()),
            id=instance_id,
            name=name,
            update_mask=field_mask_pb2.FieldMask(paths=["name"]),
            etag=read.etag,
        )
        try:
            cloud.instances.UpdateInstance(change, timeout=30)
        except grpc.RpcError as error:
            if refusal_of(error).reason != "ETAG_MISMATCH":
                raise
        else:
            return


def remove(cloud: Cloud, instance_id: str) -> None:
    """Deletes and waits for the end of the work, at most 30 s a call."""
    wish = instance_pb2.DeleteInstanceRequest(request_id=str(uuid.uuid4()), id=instance_id)
    operation = cloud.instances.DeleteInstance(wish, timeout=30).operation
    while operation.state == operation_pb2.OPERATION_STATE_RUNNING:
        waiting = operation_pb2.WaitOperationRequest(
            id=operation.id, timeout=duration_pb2.Duration(seconds=30)
        )
        operation = cloud.operations.WaitOperation(waiting, timeout=40).operation
    done = operation.state == operation_pb2.OPERATION_STATE_DONE
    promised(done, f"an instance removed: {operation.error.message}")


def history(cloud: Cloud, instance_id: str) -> list[str]:
    """Lists the work on one instance, oldest first, in pages that are true to one revision."""
    actions: list[str] = []
    request = operation_pb2.ListOperationsRequest(
        filter=f'resource_id = "{instance_id}"',
        page_size=1,  # 100 if not said, 1,000 at most
    )
    while True:
        page = cloud.operations.ListOperations(request, timeout=30)
        names = operation_pb2.OperationAction.Name
        actions += [names(operation.action) for operation in page.operations]
        if not page.next_page_token:
            return actions
        request.page_token = page.next_page_token


def main() -> int:
    """Reads the flags and says whether all was as promised."""
    environment = os.environ
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoints", default=environment.get("STEAD_ENDPOINT", ""))
    token_file = environment.get("STEAD_TOKEN_FILE", "")
    parser.add_argument("--token-file", type=pathlib.Path, default=token_file)
    config = pathlib.Path("../../docs/service-config.json")
    parser.add_argument("--service-config", type=pathlib.Path, default=config)
    parser.add_argument("--ca", type=pathlib.Path)
    parser.add_argument("--flavor", default="tiny")
    parser.add_argument("--image", default="guest")
    flags = parser.parse_args()
    doors = [
        Door(endpoint, flags.token_file, flags.service_config, flags.ca)
        for endpoint in flags.endpoints.split(",")
    ]
    try:
        print(json.dumps(live(doors, flags.flavor, flags.image)))
    except (grpc.RpcError, OSError, NotAsPromised) as error:
        print("not as promised:", error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
