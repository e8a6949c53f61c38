"""The words in which an inspection speaks: how a file is read, and what was found."""

from collections.abc import Callable
from dataclasses import dataclass

Reader = Callable[[int, int], bytes]
"""Reads at most LENGTH bytes at OFFSET: `read(offset, length)`; fewer at the end of the file."""

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Sound:
    """The file is what it was said to be; it fits on a disk of this many GiB, 0 where it needs
    none.
    """

    min_disk_gib: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The file may not come in; `why` is for its owner."""

    why: str


Verdict = Sound | Rejected


def gib_for(size_bytes: int) -> int:
    """The smallest whole number of GiB that holds `size_bytes`."""
    return -(-size_bytes // GIB)
