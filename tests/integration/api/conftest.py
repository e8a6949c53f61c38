"""One running api for most tests of this folder; each test uses projects of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.api.cloud import ApiCloud, api_cloud


@pytest_asyncio.fixture(scope="session")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiCloud]:
    async with api_cloud(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest_asyncio.fixture
async def own_cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiCloud]:
    """For tests that break it."""
    async with api_cloud(tmp_path_factory.mktemp("own")) as running:
        yield running
