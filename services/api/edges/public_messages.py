"""Rows as the public messages that a caller may see.

Owns what stands in no row's body (version, revision, epoch, etag, allowed actions, ledger), and
what tenants do not see. Does not own legality: that is the table of `domain.instance`.
"""

import hashlib

from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2, operation_pb2

from services.api.logic.caller import Caller
from services.api.logic.row import Row
from services.domain.instance import Standing, State, Task, allowed_actions
from services.domain.operation import FINISHED, OperationState
from services.domain.resources import Resources


def instance(row: Row, caller: Caller) -> instance_pb2.Instance:
    """An instance; host and epoch only for cloud admins."""
    message = instance_pb2.Instance.FromString(row.body)
    message.version = row.version
    message.revision = row.revision
    message.etag = _etag(row)
    if caller.cloud_admin:
        message.epoch = row.epoch
    else:
        message.host_id = ""
        message.epoch = 0
    standing = Standing(State(message.state), Task(message.task))
    del message.allowed_actions[:]
    message.allowed_actions.extend(action.value for action in allowed_actions(standing))  # type: ignore[misc]  # same numbers
    return message


def operation(row: Row) -> operation_pb2.Operation:
    """An operation."""
    message = operation_pb2.Operation.FromString(row.body)
    message.version = row.version
    message.revision = row.revision
    return message


def flavor(row: Row) -> flavor_pb2.Flavor:
    """A flavor."""
    message = flavor_pb2.Flavor.FromString(row.body)
    message.version = row.version
    message.revision = row.revision
    return message


def image(row: Row) -> image_pb2.Image:
    """An image."""
    message = image_pb2.Image.FromString(row.body)
    message.version = row.version
    message.revision = row.revision
    return message


def host(row: Row) -> host_pb2.Host:
    """A host with its ledger."""
    message = host_pb2.Host.FromString(row.body)
    message.version = row.version
    message.revision = row.revision
    if row.ledger is not None:
        message.target.CopyFrom(_resources(row.ledger.target))
        message.used.CopyFrom(_resources(row.ledger.used))
        message.claims = row.ledger.claims
    return message


def is_ended(row: Row) -> bool:
    """Whether the operation of this row has ended."""
    return OperationState(operation_pb2.Operation.FromString(row.body).state) in FINISHED


def host_of(row: Row) -> str:
    """The host of an instance, empty before placement."""
    return instance_pb2.Instance.FromString(row.body).host_id


def digest_of(row: Row) -> str:
    """The digest of an image's bytes."""
    return image_pb2.Image.FromString(row.body).digest


def _resources(amounts: Resources) -> host_pb2.Resources:
    return host_pb2.Resources(
        vcpus=amounts.vcpus, memory_mib=amounts.memory_mib, disk_gib=amounts.disk_gib
    )


def _etag(row: Row) -> str:
    return hashlib.sha256(f"{row.id} {row.version}".encode()).hexdigest()[:16]
