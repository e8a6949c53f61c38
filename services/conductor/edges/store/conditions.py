"""Conditions on rows: as SQL where a column has the field, and on the stored message for all.

Owns which fields a noun has and how they are stored. Does not own the grammar (api).
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from stead.v1 import (
    flavor_pb2,
    host_pb2,
    image_pb2,
    instance_pb2,
    key_pair_pb2,
    operation_pb2,
    project_pb2,
)

from services.domain.condition import LABEL_PREFIX, Condition, all_hold
from services.domain.errors import Invalid
from services.domain.ids import is_row_id
from services.domain.kinds import ResourceKind

MESSAGES: dict[ResourceKind, type[Message]] = {
    ResourceKind.INSTANCE: instance_pb2.Instance,
    ResourceKind.OPERATION: operation_pb2.Operation,
    ResourceKind.FLAVOR: flavor_pb2.Flavor,
    ResourceKind.IMAGE: image_pb2.Image,
    ResourceKind.HOST: host_pb2.Host,
    ResourceKind.PROJECT: project_pb2.Project,
    ResourceKind.KEY_PAIR: key_pair_pb2.KeyPair,
}

# The type of the column, empty where only the message has the field.
FIELDS: dict[ResourceKind, dict[str, str]] = {
    ResourceKind.INSTANCE: {
        "id": "uuid",
        "name": "text",
        "project_id": "text",
        "state": "smallint",
        "task": "smallint",
        "power": "smallint",
        "host_id": "text",
        "flavor_id": "text",
        "image_id": "text",
    },
    ResourceKind.OPERATION: {
        "id": "uuid",
        "project_id": "text",
        "action": "smallint",
        "state": "smallint",
        "phase": "smallint",
        "resource_id": "text",
        "actor": "",
        "request_id": "",
    },
    ResourceKind.FLAVOR: {"id": "uuid", "name": "text"},
    ResourceKind.IMAGE: {
        "id": "uuid",
        "name": "text",
        "project_id": "text",
        "digest": "text",
        "kind": "",
        "architecture": "",
        "visibility": "",
    },
    ResourceKind.HOST: {"id": "text", "state": "smallint", "enabled": ""},
    ResourceKind.PROJECT: {"id": "text"},
    ResourceKind.KEY_PAIR: {"id": "uuid", "name": "text", "project_id": "text"},
}
_SMALLINT_MAX = 32767


def check(kind: ResourceKind, conditions: Sequence[Condition]) -> None:
    """Raises Invalid (FILTER_INVALID) for a field that the noun has not, or a value that the field
    cannot have.
    """
    for condition in conditions:
        labelled = kind is ResourceKind.INSTANCE and condition.field.startswith(LABEL_PREFIX)
        if condition.field not in FIELDS[kind] and not labelled:
            raise Invalid(
                "FILTER_INVALID", f"{condition.field} cannot be filtered on", field="filter"
            )
        if column_type(kind, condition) == "smallint":
            for value in condition.values:
                if not (value.isascii() and value.isdigit() and int(value) <= _SMALLINT_MAX):
                    raise Invalid(
                        "FILTER_INVALID", f"{condition.field} is never {value!r}", field="filter"
                    )


def column_type(kind: ResourceKind, condition: Condition) -> str:
    """The type of the condition's column, empty where there is none."""
    return FIELDS[kind].get(condition.field, "")


def argument(kind: ResourceKind, condition: Condition) -> list[Any]:
    """The condition's values as the array that its column is compared with."""
    match column_type(kind, condition):
        case "smallint":
            return [int(value) for value in condition.values]
        case "uuid":
            # Other text is no row's id.
            return [value for value in condition.values if is_row_id(value)]
        case _:
            return list(condition.values)


def sql(kind: ResourceKind, condition: Condition, place: str) -> str:
    """The condition on its column; `place` stands for the argument."""
    equal = f"{condition.field} = ANY ({place}::{column_type(kind, condition)}[])"
    return f"NOT ({equal})" if condition.negated else equal


def hold(kind: ResourceKind, conditions: Sequence[Condition], body: bytes) -> bool:
    """Whether the row with this stored message meets every condition."""
    if not conditions:
        return True
    message: Any = MESSAGES[kind].FromString(body)

    def value_of(field: str) -> str | None:
        if field.startswith(LABEL_PREFIX):
            found: str | None = message.labels.get(field.removeprefix(LABEL_PREFIX))
            return found
        value = getattr(message, field)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return all_hold(conditions, value_of)
