"""What a guest of the fake driver does with what is typed into it."""

import tracemalloc

from services.compute.edges.drivers.fake_guest import CONSOLE_KEPT
from tests.unit.compute.fake_guests import GUEST


def test_a_guest_counts_as_asked_in_each_line() -> None:
    assert GUEST.after(b"count 2\ncount 3\r\nno").console == "count 2\ncount 3\r\nno1\n2\n1\n2\n3\n"


def test_one_input_cannot_ask_for_more_than_a_host_can_hold() -> None:
    tracemalloc.start()
    after = GUEST.after(b"count 999999\n" * 100)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(after.console) == CONSOLE_KEPT
    assert after.console.endswith("\n1\n")
    assert most_bytes < 256 << 20
