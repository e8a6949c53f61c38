"""Waiting for accepted work on behalf of a command."""

from typing import Any

import grpc

from services.cli.edges.api import Api
from services.cli.edges.terminal import Output, end_line, phase_teller, say
from services.cli.flows.wait import await_operation
from services.cli.logic.refusal import refusal_of_operation

DONE = "OPERATION_STATE_DONE"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


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


def raise_unless_done(operation: dict[str, Any]) -> None:
    """Raises Refusal for an operation that ended without success."""
    if operation["state"] != DONE:
        number = int((operation.get("error") or {}).get("code", 0))
        raise refusal_of_operation(operation, code=_CODES.get(number, "UNKNOWN"))
