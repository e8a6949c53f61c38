"""Tables and cards for people."""

from __future__ import annotations

import pytest

from services.cli.logic.amounts import limit_of, rows_of
from services.cli.logic.columns import COLUMNS
from services.cli.logic.sentences import line_of
from services.cli.logic.tables import card, table
from services.cli.logic.words import (
    clean,
    clean_lines,
    counted,
    cut,
    without_control,
    word,
)
from services.domain.errors import Invalid


def test_enums_read_as_one_word() -> None:
    assert word("INSTANCE_STATE_ACTIVE") == "ACTIVE"
    assert word("plain") == "plain"


def test_columns_line_up_and_what_is_not_set_is_a_dash() -> None:
    rows = [
        {"id": "1", "name": "long-name", "vcpus": 1, "memory_mib": "128", "disk_gib": "1"},
        {"id": "22", "name": "b", "vcpus": 16, "memory_mib": "4096", "disk_gib": ""},
    ]
    assert table("flavor", rows).splitlines() == [
        "ID  NAME       VCPUS  MEMORY MIB  DISK GIB",
        "1   long-name  1      128         1",
        "22  b          16     4096        -",
    ]


def test_an_empty_list_is_a_sentence() -> None:
    assert table("instance", []) == "no instances"


def test_a_guests_bytes_cannot_move_the_cursor() -> None:
    assert "\x1b" not in clean("\x1b[2J")
    assert clean_lines("a\r\nb\tc\x07") == "a\nb\tc\N{REPLACEMENT CHARACTER}"
    assert "\x1b" not in card({"fault": "\x1b]0;owned\x07"})


def test_a_card_shows_nested_fields_by_their_path_and_leaves_out_empty_ones() -> None:
    shown = card(
        {
            "id": "i",
            "state": "INSTANCE_STATE_ACTIVE",
            "labels": {"a": "b"},
            "allowed_actions": ["INSTANCE_ACTION_DELETE"],
            "phases": [{"phase": "OPERATION_PHASE_ENDED"}],
            "fault": "",
            "addresses": [],
            "enabled": True,
        }
    )
    assert dict(line.split(None, 1) for line in shown.splitlines()) == {
        "id": "i",
        "state": "ACTIVE",
        "labels.a": "b",
        "allowed_actions": "DELETE",
        "phases.0.phase": "ENDED",
        "enabled": "true",
    }


def test_a_consoles_colours_cursors_and_titles_are_left_out() -> None:
    said = "\x1b]0;owned\x07\x1b[1;31mlogin\x1b[0m:\x1b[6n\r\n\x1b(B\x1bcroot\x07# \x9b2J"
    assert (
        without_control(said)
        == "login:\nroot\N{REPLACEMENT CHARACTER}# \N{REPLACEMENT CHARACTER}2J"
    )
    assert without_control("\x1b") == "\N{REPLACEMENT CHARACTER}"


def test_one_is_not_many() -> None:
    assert [counted(number, "guest") for number in (0, 1, 2)] == ["0 guests", "1 guest", "2 guests"]


INSTANCE = {
    "id": "01a2048d-a56b-7140-86a6-53fad6ce83b7",
    "name": "web",
    "state": "INSTANCE_STATE_ACTIVE",
    "task": "INSTANCE_TASK_NONE",
    "power": "INSTANCE_POWER_RUNNING",
    "host_id": "rack1-7",
    "vcpus": 1,
    "memory_mib": "128",
    "disk_gib": "1",
    "create_time": "2026-01-02T03:04:05.678Z",
    "version": "3",
}


@pytest.mark.parametrize("width", [160, 100, 80, 60, 40, 24])
def test_a_table_fits_its_terminal_and_keeps_what_names_the_thing(width: int) -> None:
    lines = table("instance", [INSTANCE], width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert "web" in lines[1]
    assert "ACTIVE" in lines[1]


def test_a_wide_terminal_and_a_pipe_get_every_column() -> None:
    assert table("instance", [INSTANCE], width=200) == table("instance", [INSTANCE])
    assert "01a2048d-a56b-7140-86a6-53fad6ce83b7" in table("instance", [INSTANCE])


def test_what_must_stay_is_cut_and_says_so() -> None:
    shown = table("instance", [{**INSTANCE, "name": "n" * 63}], width=40)
    assert "\N{HORIZONTAL ELLIPSIS}" in shown
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert cut("abc", 3) == "abc"


def test_a_column_that_says_nothing_goes_first() -> None:
    row = {
        "id": "o",
        "action": "OPERATION_ACTION_STOP_INSTANCE",
        "state": "OPERATION_STATE_DONE",
        "phase": "OPERATION_PHASE_ENDED",
        "create_time": "2026-01-02T03:04:05Z",
        "error": {},
    }
    full = table("operation", [row])
    narrower = table("operation", [row], width=max(map(len, full.splitlines())) - 1)
    assert "WHY" not in narrower or "RESOURCE" not in narrower
    assert "PHASE" in narrower


def test_every_table_keeps_a_column_whatever_the_width() -> None:
    for noun, columns in COLUMNS.items():
        assert any(column.rank == 0 for column in columns), noun


def test_what_can_be_asked_and_what_not_is_a_line_each() -> None:
    blocked = {
        "action": "INSTANCE_ACTION_START",
        "reason": "INVALID_INSTANCE_STATE",
        "message": "the instance is ACTIVE",
    }
    shown = card(
        {"allowed_actions": ["INSTANCE_ACTION_STOP"], "vcpus": 1, "blocked_actions": [blocked]}
    )
    assert shown.splitlines() == [
        "allowed_actions        STOP",
        "blocked_actions.START  the instance is ACTIVE (INVALID_INSTANCE_STATE)",
        "vcpus                  1",
    ]


def test_a_host_that_is_kept_free_says_so() -> None:
    host = {"id": "h", "state": "HOST_STATE_UP", "enabled": False}
    assert "UP, disabled" in table("host", [host])
    assert "disabled" not in table("host", [{**host, "enabled": True}])


def test_limits_are_shown_with_what_is_left() -> None:
    quota = {
        "limits": {"instances": "2", "vcpus": "-1", "memory_mib": "100", "disk_gib": "0"},
        "used": {"instances": "1", "vcpus": "7", "memory_mib": "300", "disk_gib": "0"},
    }
    assert table("amount", rows_of(quota)).splitlines() == [
        "RESOURCE    USED  LIMIT  LEFT",
        "instances   1     2      1",
        "vcpus       7     none   any",
        "memory_mib  300   100    0",
        "disk_gib    0     0      0",
    ]


def test_a_limit_is_a_number_or_none() -> None:
    assert (limit_of("20", flag="--vcpus"), limit_of("None", flag="--vcpus")) == (20, -1)
    for wrong in ("-1", "many", "1.5", "", "9" * 30, "\N{SUPERSCRIPT TWO}"):
        with pytest.raises(Invalid) as refused:
            limit_of(wrong, flag="--vcpus")
        assert refused.value.field == "--vcpus"


def test_a_line_of_a_watch_says_what_changed() -> None:
    shown = line_of("instance", INSTANCE, revision=12)
    assert shown == "    12  web  version=3 state=ACTIVE task=NONE power=RUNNING host=rack1-7"
    assert line_of("instance", INSTANCE, revision=12, left=True).endswith("(no longer matches)")
    operation = {
        "id": "o",
        "version": "2",
        "action": "OPERATION_ACTION_STOP_INSTANCE",
        "state": "OPERATION_STATE_FAILED",
        "phase": "OPERATION_PHASE_ENDED",
        "error": {"reason": "GUEST_LOST"},
    }
    assert line_of("operation", operation, revision=1).endswith("STOP_INSTANCE FAILED GUEST_LOST")
    host = {
        "id": "h",
        "version": "9",
        "state": "HOST_STATE_UP",
        "enabled": False,
        "disabled_reason": "a \x1b[31mdisk",
        "claims": 4,
    }
    shown = line_of("host", host, revision=1)
    assert "disabled: a" in shown
    assert "\x1b" not in shown
