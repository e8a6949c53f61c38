"""Carrying out a mutation on behalf of a command: for real or as a dry run, to its end or not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from services.cli.edges.api import Api, as_json, new_request_id
from services.cli.edges.commands.flags import WAIT_S
from services.cli.edges.commands.waiting import wait_done
from services.cli.edges.terminal import Output, say

DRY_RUN = "a dry run: all of it was checked, nothing was changed"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a mutation is carried out, and for whom it is shown."""

    output: Output
    dry_run: bool = False
    wait: bool = False
    timeout_s: float = WAIT_S


def carry_out(
    api: Api, method: Callable[..., Any], request: Any, *, what: str, manner: Manner
) -> dict[str, Any]:
    """The JSON of the thing that it is about: as it would be, as it was accepted, or with `wait` as
    it is when the work is DONE. `what` is told with the progress. Raises Refusal, Unavailable.
    """
    request.request_id = new_request_id()
    request.validate_only = manner.dry_run
    answer = api.call(method, request)
    if manner.dry_run:
        tell_dry_run(manner.output)
    elif manner.wait:
        operation = as_json(answer.operation)
        wait_done(api, operation, what=what, timeout_s=manner.timeout_s, output=manner.output)
        # The same id again: the same thing, as it is now.
        answer = api.call(method, request)
    return as_json(thing_of(answer))


def thing_of(answer: Message) -> Message:
    """What a mutation is about: the first field of its answer, by the contract."""
    found: Message = getattr(answer, answer.DESCRIPTOR.fields[0].name)
    return found


def tell_dry_run(output: Output) -> None:
    """For people; programs know what they asked for."""
    if output is Output.TABLE:
        say(DRY_RUN)
