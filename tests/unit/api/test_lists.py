"""Filters and page tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.logic.filter import FIELDS, BadFilter, parse
from services.api.logic.page_token import seal, unseal
from services.domain.kinds import ResourceKind

KEY = b"k" * 32


@pytest.mark.parametrize(
    ("text", "kind", "conditions"),
    [
        ("", ResourceKind.INSTANCE, {}),
        ("  ", ResourceKind.HOST, {}),
        ('name = "a"', ResourceKind.FLAVOR, {"name": "a"}),
        ('name="a"', ResourceKind.FLAVOR, {"name": "a"}),
        ('name = "a AND b = \\"c\\""', ResourceKind.INSTANCE, {"name": 'a AND b = "c"'}),
        ('name = "back\\\\slash"', ResourceKind.INSTANCE, {"name": "back\\slash"}),
        ('state = "ACTIVE"', ResourceKind.INSTANCE, {"state": "3"}),
        ('state = "INSTANCE_STATE_ERROR"', ResourceKind.INSTANCE, {"state": "5"}),
        ('state = "OPERATION_STATE_DONE"', ResourceKind.OPERATION, {"state": "2"}),
        (
            'state = "ACTIVE" AND name = "x" AND image_id = "y"',
            ResourceKind.INSTANCE,
            {"state": "3", "name": "x", "image_id": "y"},
        ),
    ],
)
def test_a_filter_is_read(text: str, kind: ResourceKind, conditions: dict[str, str]) -> None:
    assert parse(text, kind) == conditions


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name", "character 1"),
        ('name = "a', "character 1"),
        ("name = a", "character 1"),
        ('name = "a" AND', "character"),
        ('name = "a" and state = "ACTIVE"', "expected AND at character 12"),
        ('name = "a" OR name = "b"', "expected AND"),
        ('name = "a"  AND name = "b"', "twice"),
        ('name != "a"', "character 1"),
        ('host_id = "h"', "no field host_id"),
        ('project_id = "p"', "no field project_id"),
        ('state = "GONE"', "one of"),
        ('state = "active"', "one of"),
        ('state = "3"', "one of"),
        ('state = "OPERATION_STATE_DONE"', "one of"),
        ('name = "a\x00"', "character 1"),
        ('name = "\\n"', "character 1"),
        ('name = "a"; DROP TABLE instance', "expected AND"),
    ],
)
def test_a_filter_that_cannot_be_read_says_where(text: str, word: str) -> None:
    parsed = parse(text, ResourceKind.INSTANCE)
    assert isinstance(parsed, BadFilter)
    assert word in parsed.why


@given(st.text(max_size=80), st.sampled_from(list(ResourceKind)))
def test_no_text_makes_the_parser_fail(text: str, kind: ResourceKind) -> None:
    parsed = parse(text, kind)
    if isinstance(parsed, dict):
        assert parsed.keys() <= FIELDS[kind].keys()


@given(st.text(min_size=1, max_size=80).filter(lambda t: t.isprintable()))
def test_any_printable_name_can_be_asked_for(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert parse(f'name = "{quoted}"', ResourceKind.INSTANCE) == {"name": name}


@given(st.text(min_size=1, max_size=64), st.text(max_size=100))
def test_a_page_token_opens_where_it_was_sealed(after_id: str, binding: str) -> None:
    token = seal(KEY, after_id, binding)
    assert unseal(KEY, token, binding) == after_id
    assert unseal(KEY, token, binding + "x") is None
    assert unseal(b"other" * 8, token, binding) is None


@given(st.text(min_size=1, max_size=100))
def test_what_was_not_sealed_does_not_open(token: str) -> None:
    assert unseal(KEY, token, "list") is None


def test_an_empty_token_begins_at_the_start() -> None:
    assert unseal(KEY, "", "list") == ""
