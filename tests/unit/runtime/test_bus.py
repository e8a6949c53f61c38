"""Messages of the bus stay within their bound."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.bus import chunks

SIZES = st.lists(st.integers(1, 50), max_size=40)


@given(SIZES, st.integers(50, 120))
def test_chunks_keep_order_and_bound(sizes: list[int], bytes_max: int) -> None:
    """Nothing lost, nothing reordered, nothing too large; no chunk could have held more."""
    made = list(chunks(((n, size) for n, size in enumerate(sizes)), bytes_max))
    assert [n for chunk in made for n in chunk] == list(range(len(sizes)))
    totals = [sum(sizes[n] for n in chunk) for chunk in made]
    assert all(total <= bytes_max for total in totals)
    for chunk, following in pairwise(made):
        assert sum(sizes[n] for n in chunk) + sizes[following[0]] > bytes_max
