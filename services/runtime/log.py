"""Structured logs: one JSON object per line on standard error, facts in fields."""

import logging
import sys

import structlog


def configure(service: str) -> None:
    """Binds the service's name and sends every line, ours and libraries', to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def logger() -> structlog.typing.FilteringBoundLogger:
    """The logger of the calling module."""
    return structlog.get_logger()  # type: ignore[no-any-return]  # structlog types it as Any
