"""Structured logs: one JSON object per line on standard error, facts in fields.

Owns the form of a line. The trace of what is being done stands in it as `correlation_id` and
`traceparent`.
"""

import functools
import json
import logging
import os
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from services.domain.trace import UNTRACED, Trace

# What is being done now belongs to this; `telemetry` sets it.
TRACE: ContextVar[Trace] = ContextVar("trace", default=UNTRACED)
LEVEL_SETTING = "STEAD_LOG_LEVEL"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_encode = json.JSONEncoder(default=repr).encode


def configure(service: str, stream: TextIO | None = None) -> None:
    """Binds the service's name and sends every line, ours and libraries', to standard error, or to
    `stream`.

    STEAD_LOG_LEVEL is debug, info or warning; anything else is info.
    """
    stream = stream or sys.stderr
    level = _LEVELS.get(os.environ.get(LEVEL_SETTING, "").lower(), logging.INFO)
    structlog.configure(
        processors=[functools.partial(_line, service)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    logger.cache_clear()
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(name)s: %(message)s")


def _line(service: str, _: Any, level: str, event: MutableMapping[str, Any]) -> str:
    """The event as a line. One function: a chain of structlog's processors costs twice as much."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(None, level, event)
    trace = TRACE.get()
    if trace.correlation_id:
        event.setdefault("correlation_id", trace.correlation_id)
    if trace.traceparent:
        event.setdefault("traceparent", trace.traceparent)
    event["service"] = service
    event["level"] = level
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    return _encode(event)


@functools.cache
def logger() -> structlog.typing.FilteringBoundLogger:
    """The logger of this process; one, since making another costs as much as a line."""
    return structlog.get_logger().bind()  # type: ignore[no-any-return]  # structlog types it as Any
