"""Waiting for accepted work on behalf of a command."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from services.cli.edges.api import Api
from services.cli.edges.terminal import Output, end_line, phase_teller, say, tally_teller
from services.cli.flows.wait import await_operation
from services.cli.logic.refusal import Refusal, refusal_of_operation

DONE = "OPERATION_STATE_DONE"
CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def wait_done(
    api: Api, operation: dict[str, Any], *, what: str, timeout_s: float, output: Output
) -> None:
    """Returns when the operation is DONE. Raises Refusal if it ended otherwise, Unavailable if it
    did not end.
    """
    try:
        show = phase_teller(what, output)
        ended = await_operation(api, operation, timeout_s=timeout_s, show=show)
    except KeyboardInterrupt:
        end_line()
        say(f"it goes on: stead operation wait {operation['id']}")
        raise
    raise_unless_done(dict(ended))


def wait_all(
    api: Api, operations: Sequence[Mapping[str, Any]], *, what: str, timeout_s: float
) -> Refusal | None:
    """Returns when all have ended: why the first did that was not DONE. Raises Unavailable if one
    did not end.
    """
    until_s = time.monotonic() + timeout_s
    failed: Refusal | None = None
    tell = tally_teller(what, len(operations))
    try:
        for number, operation in enumerate(operations):
            ended = await_operation(
                api,
                operation,
                timeout_s=max(0.1, until_s - time.monotonic()),
                show=lambda *_, done=number: tell(done),
            )
            failed = failed or refusal_unless_done(dict(ended))
    except KeyboardInterrupt:
        end_line()
        say("they go on: stead operation list")
        raise
    tell(len(operations))
    return failed


def raise_unless_done(operation: dict[str, Any]) -> None:
    """Raises Refusal for an operation that ended without success."""
    if refusal := refusal_unless_done(operation):
        raise refusal


def refusal_unless_done(operation: dict[str, Any]) -> Refusal | None:
    """Why an operation ended without success, None for one that is DONE."""
    if operation["state"] == DONE:
        return None
    number = int((operation.get("error") or {}).get("code", 0))
    return refusal_of_operation(operation, code=CODE_NAMES.get(number, "UNKNOWN"))
