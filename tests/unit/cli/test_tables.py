"""Tables and cards for people."""

from __future__ import annotations

from services.cli.logic.tables import (
    card,
    clean,
    clean_lines,
    counted,
    table,
    without_control,
    word,
)


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
