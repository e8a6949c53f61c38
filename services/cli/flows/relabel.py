"""Changing some labels of a thing: all are written at once, so the etag keeps what another wrote
meanwhile.
"""

from collections.abc import Callable, Mapping
from typing import Any

from services.cli.logic.refusal import Refusal

TRIES_MAX = 5
Labels = Mapping[str, str]


def relabel(
    read: Callable[[], tuple[Labels, str]],
    write: Callable[[Labels, str], dict[str, Any]],
    *,
    change: Callable[[Labels], Labels],
    etag: str = "",
) -> dict[str, Any]:
    """What `write(labels, etag)` answers. Reads again and decides again where another was first;
    with an `etag` of the caller's own that is told instead. Raises Refusal.
    """
    tries = 0
    while True:
        tries += 1
        labels, seen = read()
        try:
            return write(change(labels), etag or seen)
        except Refusal as refusal:
            if refusal.reason != "ETAG_MISMATCH" or etag or tries == TRIES_MAX:
                raise
