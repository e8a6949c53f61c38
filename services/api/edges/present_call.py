"""The call that the present task serves: who makes it, and how long its caller still waits.

Owns the remembering for the length of one call. Does not own who may call: `edges.authentication`.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar

from services.api.logic.caller import Caller

_caller: ContextVar[Caller] = ContextVar("caller")
_recheck: ContextVar[Callable[[], object]] = ContextVar("recheck")
_until_s: ContextVar[float | None] = ContextVar("until_s", default=None)


def begin(
    caller: Caller, time_left_s: float | None, recheck: Callable[[], object] | None = None
) -> None:
    """Remembers the call; `time_left_s` is None for a caller who waits for ever. `recheck` raises
    what would refuse the same call now.
    """
    _caller.set(caller)
    _recheck.set(recheck or _nothing)
    _until_s.set(None if time_left_s is None else time.monotonic() + time_left_s)


def caller() -> Caller:
    """Who makes the present call."""
    return _caller.get()


def recheck() -> None:
    """Raises Unauthenticated or Denied where the present call would be refused by now."""
    _recheck.get()()


def time_left_s() -> float | None:
    """How long the caller still waits, at least 0; None for ever and outside of calls."""
    until_s = _until_s.get()
    return None if until_s is None else max(0.0, until_s - time.monotonic())


def _nothing() -> None:
    """For calls that are never refused."""
