"""The public messages inside records, as far as flows must know or make them."""

from dataclasses import replace
from typing import Any

from stead.v1 import (
    flavor_pb2,
    host_pb2,
    image_pb2,
    instance_pb2,
    key_pair_pb2,
    operation_pb2,
    project_pb2,
)

from services.conductor.edges.store import codec
from services.conductor.logic.items import Record
from services.conductor.logic.rows import OperationRow
from services.domain.kinds import ResourceKind

_MESSAGES: dict[ResourceKind, Any] = {
    ResourceKind.INSTANCE: instance_pb2.Instance,
    ResourceKind.OPERATION: operation_pb2.Operation,
    ResourceKind.FLAVOR: flavor_pb2.Flavor,
    ResourceKind.IMAGE: image_pb2.Image,
    ResourceKind.HOST: host_pb2.Host,
    ResourceKind.PROJECT: project_pb2.Project,
    ResourceKind.KEY_PAIR: key_pair_pb2.KeyPair,
}
# Their ids are given by who asks for them.
_NAMED_BY_CALLERS = frozenset({ResourceKind.HOST, ResourceKind.PROJECT})


class MessageBodies:
    """Implements `flows.ports.Bodies`."""

    def operation_of(self, record: Record) -> OperationRow:
        """The operation that a record tells of."""
        return codec.operation_from(record.body, record.version, record.revision)

    def unborn(self, record: Record) -> Record:
        """What a record would say of a thing that has no identity yet."""
        if record.kind in _NAMED_BY_CALLERS:
            return replace(record, version=0, revision=0)
        message = _MESSAGES[record.kind].FromString(record.body)
        message.ClearField("id")
        return replace(record, id="", version=0, revision=0, body=message.SerializeToString())

    def unknown_project(self, project_id: str, revision: int) -> Record:
        """A project of which nobody has made anything known."""
        return Record(
            kind=ResourceKind.PROJECT,
            id=project_id,
            project_id=project_id,
            version=0,
            revision=revision,
            epoch=0,
            body=project_pb2.Project(id=project_id).SerializeToString(),
            deleted=False,
            public=False,
        )
