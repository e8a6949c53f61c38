"""A replica that follows a change log in memory, for all tests of lists and watches."""

from collections.abc import AsyncIterator

import pytest

from services.api.flows.follow_feed import Feed
from tests.fakes.changelog import Changelog, replica


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
async def feed(changelog: Changelog) -> AsyncIterator[Feed]:
    async with replica(changelog) as made:
        yield made
