"""What stands beside the reason of a refusal, for each kind."""

from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2
from stead.internal.v1 import conductor_pb2

from services.api.edges.batch import error_of_batch
from services.api.edges.conductor_messages import error_from, mutation_to
from services.api.edges.refusals import status_for
from services.api.edges.validation import InvalidFields
from services.api.logic.caller import Caller, Role
from services.domain.errors import AlreadyExists, Invalid, Unavailable, WrongState

KINDS: tuple[Any, ...] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    error_details_pb2.QuotaFailure,
    error_details_pb2.PreconditionFailure,
)


def details(refused: Any) -> dict[str, Any]:
    """The details of a refusal by the name of their kind."""
    found = {}
    for packed in status_for(refused).details:
        for kind in KINDS:
            detail = kind()
            if packed.Unpack(detail):
                assert kind.__name__ not in found
                found[kind.__name__] = detail
    return found


def test_every_refusal_has_its_reason() -> None:
    for refused in (
        Invalid("A_B", "x"),
        WrongState("A_B", "x"),
        Unavailable("A_B", "x"),
        AlreadyExists("A_B", "x"),
    ):
        assert details(refused)["ErrorInfo"].reason == "A_B"


def test_a_quota_is_told_by_resource_and_keeps_its_code() -> None:
    error = conductor_pb2.ItemError(
        code=code_pb2.RESOURCE_EXHAUSTED,
        reason="QUOTA_EXCEEDED",
        message="too much",
        metadata={"vcpus_limit": "1"},
        quota_violations={"vcpus": "1 at most", "instances": "2 at most"},
    )
    refused = error_from(error)
    assert status_for(refused).code == code_pb2.RESOURCE_EXHAUSTED
    told = details(refused)
    assert told["ErrorInfo"].metadata == {"vcpus_limit": "1"}
    assert [(v.subject, v.description) for v in told["QuotaFailure"].violations] == [
        ("instances", "2 at most"),
        ("vcpus", "1 at most"),
    ]


def test_a_wrong_state_is_told_with_what_is_in_it() -> None:
    refused = WrongState("OPERATION_UNDER_WAY", "it stops", metadata={"id": "i-1"})
    (violation,) = details(refused)["PreconditionFailure"].violations
    assert (violation.type, violation.subject) == ("OPERATION_UNDER_WAY", "i-1")
    assert violation.description == "it stops"


def test_who_may_try_again_is_told_when() -> None:
    full = conductor_pb2.ItemError(code=code_pb2.RESOURCE_EXHAUSTED, reason="LANE_FULL")
    assert details(error_from(full))["RetryInfo"].retry_delay.ToMilliseconds() == 1000
    assert details(Unavailable("PEER_UNREACHABLE", "x"))["RetryInfo"]
    assert "RetryInfo" not in details(Invalid("INVALID_FIELD", "x", field="name"))


def test_fields_are_told_together() -> None:
    told = details(InvalidFields([("name", "is empty"), ("id", "is odd")]))
    assert [v.field for v in told["BadRequest"].field_violations] == ["name", "id"]
    assert told["ErrorInfo"].reason == "INVALID_FIELD"


def test_a_batch_is_refused_whole_only_where_nothing_else_can_be_said() -> None:
    away, taken = Unavailable("PEER_UNREACHABLE", "x"), AlreadyExists("NAME_TAKEN", "x")
    reused = Invalid("REQUEST_ID_REUSED", "x")
    assert error_of_batch([away, away]) is away
    assert error_of_batch([away, taken]) is None
    assert error_of_batch([taken, reused]) is reused


def test_what_is_no_wish_is_a_bug() -> None:
    with pytest.raises(TypeError, match="not a wish"):
        mutation_to(Caller("a", "p", Role.MEMBER, 0.0), object())  # type: ignore[arg-type]  # what it is about
