"""Tokens that callers carry: sealed, bound, and short enough for their fields."""

from hypothesis import given
from hypothesis import strategies as st

from services.api.logic.seal import Place, binding, seal, unseal

KEY = b"k" * 32
TEXTS = st.text(max_size=40)


@given(TEXTS, st.integers(0, 2**63), TEXTS, TEXTS, TEXTS)
def test_a_token_opens_where_it_was_sealed(
    history_id: str, revision: int, last_key: str, last_id: str, bound_to: str
) -> None:
    token = seal(KEY, Place(history_id, revision, last_key, last_id), bound_to)
    opened = unseal(KEY, token, bound_to)
    assert opened is not None
    assert (opened.revision, opened.last_key, opened.last_id) == (revision, last_key, last_id)
    assert opened.is_of(history_id)
    assert not opened.is_of(history_id + "'")
    assert unseal(KEY, token, bound_to + "x") is None
    assert unseal(b"other" * 8, token, bound_to) is None


@given(st.text(max_size=100))
def test_what_was_not_sealed_does_not_open(token: str) -> None:
    assert unseal(KEY, token, "list") is None


@given(st.lists(TEXTS), st.lists(TEXTS))
def test_different_arguments_bind_differently(some: list[str], others: list[str]) -> None:
    assert (binding(*some) == binding(*others)) is (some == others)


def test_the_longest_token_fits_its_field() -> None:
    longest = seal(KEY, Place("h", 2**63, "\U0001f300" * 63, "i" * 63), "x")
    assert len(longest) <= 1024
