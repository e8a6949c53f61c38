"""One PostgreSQL for the tests of the conductor, and a fresh store in it for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from services.conductor.edges.store.postgres import PostgresStore
from tests.engines import Postgres, postgres
from tests.stores import new_store


@dataclass
class Place:
    """A store, the server under it and the name of its database."""

    server: Postgres
    store: PostgresStore
    database: str

    @property
    def url(self) -> str:
        return self.server.url(self.database)

    def sql(self, statement: str) -> str:
        return self.server.sql(statement, self.database)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("pg")) as running:
        yield running


@pytest.fixture
async def place(server: Postgres) -> AsyncIterator[Place]:
    async with new_store(server) as (store, name):
        yield Place(server, store, name)
