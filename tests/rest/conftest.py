"""The service on the demo data."""

from collections.abc import AsyncIterator

import pytest

from tests.service import Service, running


@pytest.fixture
async def demo(demo_url: str) -> AsyncIterator[Service]:
    """Run the service on the shared demo; tests must not write to it."""
    async with running(demo_url) as (app, client):
        yield Service(app, client, app.state.database, "demo")


@pytest.fixture
async def own_demo(own_demo_url: str) -> AsyncIterator[Service]:
    """Run the service on a demo database of the test."""
    async with running(own_demo_url) as (app, client):
        yield Service(app, client, app.state.database, "demo")
