"""What a guest of the fake driver does with what is typed into it."""

import resource

import psutil

from services.compute.edges.drivers.fake_guest import CONSOLE_KEPT
from tests.unit.compute.fake_guests import GUEST


def test_a_guest_counts_as_asked_in_each_line() -> None:
    assert GUEST.after(b"count 2\ncount 3\r\nno").console == "count 2\ncount 3\r\nno1\n2\n1\n2\n3\n"


def test_one_input_cannot_ask_for_more_than_a_host_can_hold() -> None:
    # More than this would be a MemoryError.
    most_bytes = psutil.Process().memory_info().vms + (256 << 20)
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, usual[1]))
    try:
        after = GUEST.after(b"count 999999\n" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)
    assert len(after.console) == CONSOLE_KEPT
    assert after.console.endswith("\n1\n")
