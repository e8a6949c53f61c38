"""What filters ask about, read from a row's body.

Owns how a field of a public message is written as text: enums as their numbers, bools as `true` and
`false`, a label under `labels.KEY`. The conductor reads the same fields for lists.
"""

from collections.abc import Mapping

from stead.v1 import host_pb2, instance_pb2, operation_pb2

from services.domain.condition import LABEL_PREFIX
from services.domain.kinds import ResourceKind


def fields_of(kind: ResourceKind, body: bytes) -> Mapping[str, str]:
    """The fields of a row that can be watched. Raises ValueError for another noun."""
    match kind:
        case ResourceKind.INSTANCE:
            return _of_instance(instance_pb2.Instance.FromString(body))
        case ResourceKind.OPERATION:
            return _of_operation(operation_pb2.Operation.FromString(body))
        case ResourceKind.HOST:
            return _of_host(host_pb2.Host.FromString(body))
        case _:
            raise ValueError(f"nobody watches {kind.name}")


def _of_instance(message: instance_pb2.Instance) -> Mapping[str, str]:
    fields = {
        "id": message.id,
        "name": message.name,
        "project_id": message.project_id,
        "state": str(message.state),
        "task": str(message.task),
        "power": str(message.power),
        "host_id": message.host_id,
        "flavor_id": message.flavor_id,
        "image_id": message.image_id,
    }
    fields |= {LABEL_PREFIX + key: value for key, value in message.labels.items()}
    return fields


def _of_operation(message: operation_pb2.Operation) -> Mapping[str, str]:
    return {
        "id": message.id,
        "project_id": message.project_id,
        "action": str(message.action),
        "state": str(message.state),
        "phase": str(message.phase),
        "resource_id": message.resource_id,
        "actor": message.actor,
        "request_id": message.request_id,
    }


def _of_host(message: host_pb2.Host) -> Mapping[str, str]:
    return {
        "id": message.id,
        "state": str(message.state),
        "enabled": "true" if message.enabled else "false",
    }
