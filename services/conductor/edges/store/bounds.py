"""How much the store does at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many rows one page looks at (`examined`), how many are read at once where only their
    messages tell which are wanted (`chunk`), and where they may not have been there yet (`pinned`);
    how many revisions a partition of the change log holds. Source: MECHANICS E5, E6.
    """

    examined: int = 10_000
    chunk: int = 1_000
    pinned: int = 200
    partition: int = 250_000


USUAL_BOUNDS = Bounds()
