"""Waiting for an operation, telling each new phase once."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from services.cli.flows.ports import OperationReader
from services.domain.errors import Unavailable

STEP_S = 1.0


def await_operation(
    reader: OperationReader,
    operation: Mapping[str, Any],
    *,
    timeout_s: float,
    show: Callable[[Mapping[str, Any], float], None],
) -> Mapping[str, Any]:
    """The ended operation. `show(operation, elapsed_s)` is called with each look.

    Raises Unavailable (WAIT_TIMED_OUT) when it has not ended in time; the work goes on.
    """
    began_s = time.monotonic()
    while True:
        elapsed_s = time.monotonic() - began_s
        show(operation, elapsed_s)
        if operation["state"] != "OPERATION_STATE_RUNNING":
            return operation
        if elapsed_s >= timeout_s:
            raise Unavailable(
                "WAIT_TIMED_OUT",
                f"operation {operation['id']} has not ended within {timeout_s:g} s; it goes on: "
                f"stead operation wait {operation['id']}",
                metadata={"operation_id": str(operation["id"])},
            )
        operation = reader.operation_wait(
            str(operation["id"]), min(STEP_S, max(0.05, timeout_s - elapsed_s))
        )
