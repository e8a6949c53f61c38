"""What all watches have in common on the wire: what is asked for, and how a run of events stands in
one message.
"""

from collections.abc import Callable
from typing import Any

from services.api.edges import present_call
from services.api.flows.watch_rows import (
    BOOKMARK_S,
    Bookmark,
    Run,
    SnapshotDone,
    WatchAsk,
    WatchEvent,
)
from services.domain.kinds import ResourceKind


def ask_from(kind: ResourceKind, request: Any, *, all_projects: bool = False) -> WatchAsk:
    """What a Watch…sRequest asks for; with the rights of the present call."""
    bookmark_s = BOOKMARK_S
    if request.HasField("bookmark_interval"):
        bookmark_s = request.bookmark_interval.ToNanoseconds() / 1e9
    return WatchAsk(
        kind,
        request.filter,
        request.resume_token,
        all_projects,
        bookmark_s,
        present_call.recheck,
        max(1, request.events_max),
    )


def fill_run(told: Any, run: Run, place: Callable[[Any, WatchEvent], None]) -> None:
    """The first event in the message itself, the others after it; `place` fills one about a row."""
    for event in run:
        message = told if event is run[0] else told.more.add()
        message.revision = event.revision
        message.resume_token = event.resume_token
        match event:
            case SnapshotDone():
                message.snapshot_done.SetInParent()
                message.snapshot_done.count = event.count
            case Bookmark():
                message.bookmark.SetInParent()
            case _:
                place(message, event)
