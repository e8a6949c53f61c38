"""Messages of the bus stay within their bound, and its troubles are told."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.bus import Troubles, chunks
from tests.logged import logged

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


async def test_trouble_of_a_kind_is_told_once_a_minute_and_again_after_it() -> None:
    """Not with every message, and not for the first outage alone."""
    now = [0.0]
    troubles = Troubles(lambda: now[0])
    with logged() as lines:
        for at_s, error in (
            (0.0, OSError("a")),
            (1.0, OSError("b")),
            (2.0, TimeoutError("c")),
            (61.0, OSError("d")),
        ):
            now[0] = at_s
            await troubles.tell(error)
        told = [line["error"] for line in lines()]
    assert told == ["OSError('a')", "TimeoutError('c')", "OSError('d')"]
