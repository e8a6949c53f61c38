"""Owns what every test shares: the event loop is uvloop, as in the services; few examples of each
property unless hypothesis is told otherwise.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

import services  # noqa: F401  # before any grpc, whose fork handlers it turns off
from tests.examples import FEW

# Before the command line's own profile, which wins.
settings.load_profile(FEW)
# What a shell starts in the background ignores it, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], uvloop.Loop]]:
    """One loop of the kind that the services run on, for all asynchronous tests."""
    return {"uvloop": uvloop.new_event_loop}
