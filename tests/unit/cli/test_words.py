"""What people write on a command line: labels, keys, names, states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.logic.filter import BadFilter, parse
from services.cli.flows.relabel import TRIES_MAX, relabel
from services.cli.logic.awaited import check_state, is_there
from services.cli.logic.conditions import about, both, condition, id_in
from services.cli.logic.labels import labels_of, relabelled
from services.cli.logic.options import Options
from services.cli.logic.public_keys import keys_in, only_key_in
from services.cli.logic.refusal import Refusal
from services.cli.logic.state import CloudState, Phase, Seat
from services.domain.errors import Invalid
from services.domain.kinds import ResourceKind

KEY = "ssh-ed25519 AAAA me@here"
ID = "01a2048d-a56b-7140-86a6-53fad6ce83b7"
STATES = ("INSTANCE_STATE_ACTIVE", "INSTANCE_STATE_STOPPED")


def test_labels_are_added_and_removed_and_the_rest_stays() -> None:
    present = {"a": "1", "b": "2"}
    assert relabelled(present, added={"c": "3"}, removed=["a"]) == {"b": "2", "c": "3"}
    assert relabelled(present, added={"a": "9"}, removed=[]) == {"a": "9", "b": "2"}
    with pytest.raises(Invalid) as refused:
        relabelled(present, added={}, removed=["z"])
    assert refused.value.field == "--remove-label"


class Shared:
    """Labels that another changes each time after they were read, `others` times."""

    def __init__(self, others: int) -> None:
        self.labels: Mapping[str, str] = {}
        self.version = 1
        self._others = others

    def read(self) -> tuple[Mapping[str, str], str]:
        seen = dict(self.labels), str(self.version)
        if self._others:
            self.labels = {**self.labels, f"other-{self._others}": "x"}
            self._others -= 1
            self.version += 1
        return seen

    def write(self, labels: Mapping[str, str], etag: str) -> dict[str, Any]:
        if etag != str(self.version):
            raise Refusal("ABORTED", "ETAG_MISMATCH", "changed meanwhile")
        self.labels = labels
        return {"labels": labels}


@pytest.mark.parametrize("others", [0, 1, TRIES_MAX - 1])
def test_what_another_writes_meanwhile_is_kept(others: int) -> None:
    shared = Shared(others)
    relabel(shared.read, shared.write, change=lambda labels: {**labels, "mine": "y"})
    assert len(shared.labels) == others + 1


def test_an_etag_of_ones_own_is_never_replaced() -> None:
    shared = Shared(1)
    with pytest.raises(Refusal) as refused:
        relabel(shared.read, shared.write, change=lambda labels: labels, etag="1")
    assert refused.value.reason == "ETAG_MISMATCH"
    with pytest.raises(Refusal):
        relabel(Shared(TRIES_MAX).read, Shared(1).write, change=lambda labels: labels, etag="9")


def test_a_label_may_hold_an_equals_sign_but_needs_a_key() -> None:
    assert labels_of(["a=b=c", "empty="]) == {"a": "b=c", "empty": ""}
    for wrong in ("a", "=b", ""):
        with pytest.raises(Invalid):
            labels_of([wrong])


def test_keys_are_the_lines_without_comments() -> None:
    assert keys_in(f"# mine\n\n{KEY}\r\n {KEY}\n".encode()) == [KEY, KEY]
    assert only_key_in(f"{KEY}\n".encode(), field="FILE") == KEY


def test_a_private_key_never_leaves_its_owner() -> None:
    with pytest.raises(Invalid) as refused:
        only_key_in(b"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", field="FILE")
    assert "private key" in refused.value.message
    assert "c2VjcmV0" not in refused.value.message


@pytest.mark.parametrize("content", [b"", b"# nothing\n", f"{KEY}\n{KEY}\n".encode()])
def test_a_key_pair_is_one_key(content: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        only_key_in(content, field="FILE")
    assert (refused.value.reason, refused.value.field) == ("PUBLIC_KEY_INVALID", "FILE")


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=63))
def test_whatever_a_thing_is_called_its_condition_can_be_read(name: str) -> None:
    parsed = parse(both(condition("name", name), 'state = "ACTIVE"'), ResourceKind.INSTANCE)
    assert not isinstance(parsed, BadFilter)
    assert parsed[0].values == (name,)


def test_a_word_is_an_id_or_a_name() -> None:
    assert id_in(ID.upper()) == ID
    assert id_in("web") == ""
    assert about(ID.upper()) == f'id = "{ID}"'
    assert about("web") == 'name = "web"'
    for wrong in ("", "a\x1b", "n" * 64):
        with pytest.raises(Invalid):
            about(wrong)
    assert both("", 'a = "b"', "") == 'a = "b"'
    assert both("", "") == ""


def _instance(state: str, task: str = "NONE") -> dict[str, str]:
    return {
        "name": "web",
        "state": f"INSTANCE_STATE_{state}",
        "task": f"INSTANCE_TASK_{task}",
        "fault": "",
    }


def test_a_state_is_named_in_either_way() -> None:
    assert check_state("stopped", STATES, flag="--until") == "STOPPED"
    assert check_state("INSTANCE_STATE_ACTIVE", STATES, flag="--until") == "ACTIVE"
    assert check_state("", STATES, flag="--until") == ""
    with pytest.raises(Invalid):
        check_state("happy", STATES, flag="--until")


def test_a_wait_ends_with_the_state_or_with_the_end_of_the_work() -> None:
    assert is_there(_instance("STOPPED"), "STOPPED")
    assert not is_there(_instance("ACTIVE", "STOPPING"), "STOPPED")
    assert not is_there(_instance("ACTIVE"), "STOPPED")
    assert is_there(_instance("ACTIVE"), "")
    assert not is_there(_instance("BUILDING", "SPAWNING"), "")
    assert is_there(_instance("DELETED"), "")
    assert is_there(_instance("ERROR"), "ERROR")


@pytest.mark.parametrize(
    ("state", "awaited"), [("ERROR", ""), ("ERROR", "ACTIVE"), ("DELETED", "ACTIVE")]
)
def test_a_wait_for_what_cannot_come_ends_with_1(state: str, awaited: str) -> None:
    with pytest.raises(Refusal) as refused:
        is_there(_instance(state), awaited)
    assert (refused.value.reason, refused.value.exit_code) == ("STATE_UNREACHABLE", 1)


def test_a_cloud_is_reached_by_all_its_replicas() -> None:
    def seat(name: str, replica: int, endpoint: str) -> Seat:
        return Seat(name, replica, "health", endpoint, "", 15, auxiliary=False)

    seats = [seat("conductor", 0, "unix:/c"), seat("api", 0, "a:1"), seat("api", 1, "a:2")]
    assert CloudState(1, 1, Phase.UP, Options(), seats).listens == ("a:1", "a:2")
    assert CloudState(1, 1, Phase.UP, Options()).listens == (Options().listen,)
