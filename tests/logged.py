"""The log lines of what a test does in its own process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from services.runtime import log

Lines = Callable[[], list[dict[str, Any]]]


@contextlib.contextmanager
def logged(service: str = "test") -> Iterator[Lines]:
    """Gives the way to read the lines so far, as objects."""
    written = io.StringIO()
    log.configure(service, written)
    try:
        yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        log.logger.cache_clear()
