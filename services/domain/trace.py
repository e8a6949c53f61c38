"""How what a call causes is found in logs, wherever it is done.

Owns what is taken over from a caller. Does not own how it travels.
"""

import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CORRELATION = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Trace:
    """x-request-id and W3C traceparent of the call that began it; empty where there was none."""

    correlation_id: str = ""
    traceparent: str = ""


UNTRACED = Trace()


def trace_from(correlation_id: str, traceparent: str) -> Trace:
    """What a caller sent, less what is not well formed. Source: W3C Trace Context, version 1."""
    return Trace(
        correlation_id if _CORRELATION.fullmatch(correlation_id) else "",
        traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
    )
