"""Fixtures of the tests of live streams."""

from collections.abc import AsyncIterator

import pytest

from tests.live.serving import LiveService, serving


@pytest.fixture
async def live(database_url: str) -> AsyncIterator[LiveService]:
    """Serve a tenant with the SKUs A and B in two warehouses."""
    async with serving(database_url) as service:
        yield service
