"""Things that are there at once, cut into runs that go in one message each.

Owns where a run ends. Does not own what a thing weighs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

# A message may have 4 MiB at a client that was left as it is; one thing alone is far smaller.
RUN_BYTES_MAX = 512 * 1024

Thing = TypeVar("Thing")


def runs(
    things: Iterable[Thing], size_bytes_of: Callable[[Thing], int], *, things_max: int
) -> Iterator[list[Thing]]:
    """All things in their order, in runs of at most `things_max` and RUN_BYTES_MAX; what is larger
    goes alone. None is empty.
    """
    run: list[Thing] = []
    room = RUN_BYTES_MAX
    for thing in things:
        size_bytes = size_bytes_of(thing)
        if run and (len(run) >= things_max or size_bytes > room):
            yield run
            run, room = [], RUN_BYTES_MAX
        run.append(thing)
        room -= size_bytes
    if run:
        yield run
