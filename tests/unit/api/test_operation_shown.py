"""What `stead operation show` tells: where an operation is, why, for whom, and when it is next."""

from __future__ import annotations

from google.protobuf import json_format
from stead.v1 import operation_pb2

from services.api.edges.public_messages import fill_operation
from services.api.logic.row import Row
from services.cli.logic.tables import card
from services.conductor.edges.store import codec
from services.conductor.logic import lifecycle, operations, overdue
from services.conductor.logic.items import Item
from services.conductor.logic.rows import OperationRow
from services.conductor.logic.step_table import USUAL_DEADLINES
from services.domain.instance import Power
from services.domain.kinds import ResourceKind
from tests.unit.conductor.situations import applied, building, seen


def shown(row: OperationRow, *, next_look_us: int = 0, looks: int = 0) -> operation_pb2.Operation:
    """The public message of a stored operation; the times beside it are those of its row."""
    message = operation_pb2.Operation()
    body = codec.operation_body(row)
    told = Row(
        ResourceKind.OPERATION, row.id, "p", 2, 9, 0, body, next_look_us=next_look_us, looks=looks
    )
    fill_operation(message, told)
    assert codec.operation_from(body, row.version, row.revision) == row
    return message


def tried_once() -> OperationRow:
    """A create that one host could not do, waiting for another."""
    situation = building()
    absent = seen(situation.instance, absent=True, failure=("IMAGE_BROKEN", "no"), power=Power.OFF)
    operation = applied(situation, lifecycle.observed(situation, absent, 3.0)).operation
    assert operation is not None
    (dated,) = operations.dated(Item(operations=(operation,)), USUAL_DEADLINES).operations
    return dated


def test_what_is_under_way_tells_tries_last_error_next_try_deadline_and_author() -> None:
    row = tried_once()
    told = shown(row, next_look_us=5_000_000, looks=3)
    assert (told.tries, told.last_error.reason, told.looks) == (1, "IMAGE_BROKEN", 3)
    assert told.next_look_time.seconds == 5
    assert told.deadline_time.seconds == int(row.phases[-1][1] + USUAL_DEADLINES.placing_s)
    assert (told.actor, told.request_id) == (row.actor, row.request_id)
    lines = card(json_format.MessageToDict(told, preserving_proto_field_name=True)).splitlines()
    fields = {line.split()[0] for line in lines}
    assert fields >= {
        "phase", "tries", "looks", "last_error.reason", "last_error.message", "next_look_time",
        "deadline_time", "actor", "request_id",
    }  # fmt: skip


def test_what_has_ended_tells_its_cause_and_has_neither_look_nor_deadline() -> None:
    row = tried_once()
    told = shown(overdue.ended_overdue(row, 700.0))
    assert (told.error.reason, told.error.metadata["cause"]) == (
        "OPERATION_OVERDUE",
        "IMAGE_BROKEN",
    )
    assert told.error.metadata["phase"] == "PLACING"
    assert told.last_error.reason == "IMAGE_BROKEN"
    assert not told.HasField("deadline_time")
    assert not told.HasField("next_look_time")


def test_nothing_of_it_names_a_host() -> None:
    """Host ids are no tenant's to see. MECHANICS E7."""
    row = tried_once()
    for told in (shown(row, next_look_us=1), shown(overdue.ended_overdue(row, 9.0))):
        assert "h1" not in str(told)
