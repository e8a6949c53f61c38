"""A "no" as the command shows it."""

from __future__ import annotations

import pytest

from services.cli.logic.refusal import (
    Refusal,
    as_json,
    as_text,
    refusal_of,
    refusal_of_operation,
)
from services.domain import errors


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("INVALID_ARGUMENT", 2),
        ("NOT_FOUND", 3),
        ("PERMISSION_DENIED", 4),
        ("UNAUTHENTICATED", 4),
        ("FAILED_PRECONDITION", 5),
        ("ALREADY_EXISTS", 5),
        ("ABORTED", 5),
        ("RESOURCE_EXHAUSTED", 6),
        ("UNAVAILABLE", 7),
        ("DEADLINE_EXCEEDED", 7),
        ("CANCELLED", 130),
        ("INTERNAL", 1),
    ],
)
def test_exit_codes_are_those_that_scripts_rely_on(code: str, exit_code: int) -> None:
    assert Refusal(code, "R", "m").exit_code == exit_code


def test_every_kind_of_error_has_a_code() -> None:
    for kind in errors.CloudError.__subclasses__():
        assert refusal_of(kind("R", "m")).code != ""


def test_a_failed_operation_is_1_and_no_room_stays_6() -> None:
    failed = {"id": "o", "state": "OPERATION_STATE_FAILED", "error": {"reason": "BUILD_FAILED"}}
    assert refusal_of_operation(failed, code="INTERNAL").exit_code == 1
    assert refusal_of_operation(failed, code="UNAVAILABLE").exit_code == 1
    assert refusal_of_operation(failed, code="RESOURCE_EXHAUSTED").exit_code == 6


def test_programs_get_exactly_the_promised_keys() -> None:
    shown = as_json(refusal_of(errors.Invalid("INVALID_FIELD", "wrong", field="name")))
    assert shown == {
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_FIELD",
        "message": "wrong",
        "metadata": {},
        "field_violations": [{"field": "name", "description": "wrong"}],
    }


def test_people_get_what_was_wrong_the_reason_and_what_to_do() -> None:
    text = as_text(Refusal("NOT_FOUND", "FLAVOR_NOT_FOUND", 'there is no flavor "x"'))
    assert text.splitlines() == [
        'stead: there is no flavor "x" (FLAVOR_NOT_FOUND)',
        "  see what there is: stead flavor list",
    ]


def test_people_get_the_filters_that_refused_hosts_and_not_the_others() -> None:
    metadata = {"rejected_by_capacity_vcpus": "3", "rejected_by_up": "0"}
    text = as_text(Refusal("RESOURCE_EXHAUSTED", "NO_VALID_HOST", "none can", metadata))
    assert "3 hosts refused by: capacity_vcpus" in text
    assert "up" not in text.splitlines()[1]
    assert len(text.splitlines()) == 3
