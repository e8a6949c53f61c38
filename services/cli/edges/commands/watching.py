"""Watches on behalf of a command: opened, opened again where they were cut off, shown."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from services.cli.edges.api import Api, as_json
from services.cli.edges.terminal import Output, say, show_line
from services.cli.flows.follow import TRIES_MAX, Pace, follow
from services.cli.logic.refusal import Refusal
from services.cli.logic.sentences import line_of
from services.domain.errors import Unavailable

SNAPSHOT_DONE = "snapshot_done"
EVENTS_MAX = 256


def pace_of(api: Api, *, tell: Callable[[str], None] = say) -> Pace:
    """How often a lost connection is tried again: once, where nobody starts again what died."""
    return Pace(time.sleep, tell, TRIES_MAX if api.is_patient else 1)


def events(
    api: Api,
    method: Callable[..., Any],
    request: Any,
    *,
    until_s: float | None = None,
    output: Output = Output.TABLE,
) -> Iterator[Any]:
    """The events of a watch without an end, from `request.resume_token` on. `until_s` is a moment
    of the monotonic clock. Raises Refusal; Unavailable (WAIT_TIMED_OUT) at that moment.
    """
    # Whoever reads JSON may want to go on from any line: each has its token then.
    request.events_max = 1 if output is Output.JSON else EVENTS_MAX

    def open_at(token: str) -> Iterator[Any]:
        request.resume_token = token
        left_s = None if until_s is None else until_s - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise _too_late()
        return _one_by_one(api.stream(method, request, timeout_s=left_s))

    try:
        yield from follow(open_at, token=request.resume_token, pace=pace_of(api))
    except Refusal as refusal:
        if until_s is None or refusal.code != "DEADLINE_EXCEEDED":
            raise
        raise _too_late() from refusal


def _one_by_one(messages: Iterator[Any]) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from message.more


def _too_late() -> Unavailable:
    words = "what was waited for did not come in time; what is under way goes on"
    return Unavailable("WAIT_TIMED_OUT", words)


@dataclass(frozen=True, slots=True)
class Tokenless:
    """A message of a watch that has no tokens: opened again, it begins with what is there."""

    answer: Any
    resume_token: str = ""


def follow_one(api: Api, method: Callable[..., Any], request: Any) -> Iterator[Any]:
    """The messages of a watch of one thing, opened again where it was cut off; some may come twice.
    Raises Refusal.
    """

    def open_at(_: str) -> Iterator[Tokenless]:
        return (Tokenless(answer) for answer in api.stream(method, request))

    return (seen.answer for seen in follow(open_at, token="", pace=pace_of(api)))


def thing_in(event: Any) -> Any:
    """The instance, operation or host that an event is about, None for marks."""
    which = event.WhichOneof("event")
    if which not in ("existing", "change", "left"):
        return None
    body = getattr(event, which)
    return body.instance if "instance" in body.DESCRIPTOR.fields_by_name else body


def show_event(noun: str, event: Any, output: Output) -> None:
    """One object on a line for programs, one sentence for people; they are spared marks."""
    thing = thing_in(event)
    if output is Output.JSON:
        row = as_json(event)
        row.pop("more", None)
        show_line(row)
    elif thing is not None:
        left = event.WhichOneof("event") == "left"
        print(line_of(noun, as_json(thing), revision=event.revision, left=left), flush=True)
