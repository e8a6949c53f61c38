"""The store of the simulation passes what the store over PostgreSQL passes: every test of it that
asks for nothing but a store, run again over memory. What is about SQL alone stays where it is.
"""

from __future__ import annotations

import inspect
import time
from types import ModuleType

import pytest

from tests.contract import (
    test_store,
    test_store_audits,
    test_store_history,
    test_store_known,
    test_store_lists,
    test_store_log,
    test_store_projects,
    test_store_rows,
)
from tests.fakes.store import MemoryStore

MODULES = (
    test_store,
    test_store_audits,
    test_store_history,
    test_store_known,
    test_store_lists,
    test_store_log,
    test_store_projects,
    test_store_rows,
)
SHARED_MIN = 25


def shared(module: ModuleType) -> dict[str, object]:
    """The tests of a module that ask for nothing but a store, by name."""
    return {
        name: found
        for name, found in vars(module).items()
        if name.startswith("test_")
        and inspect.iscoroutinefunction(found)
        and list(inspect.signature(found).parameters) == ["store"]
    }


@pytest.fixture
def store() -> MemoryStore:
    """In the place of the one over PostgreSQL."""
    return MemoryStore(time.monotonic)


for _module in MODULES:
    globals().update(shared(_module))


def test_most_of_the_contract_is_shared() -> None:
    """A test that asks for a database besides leaves this list; not many may."""
    assert sum(len(shared(module)) for module in MODULES) >= SHARED_MIN
