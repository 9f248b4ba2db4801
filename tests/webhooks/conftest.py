"""A service that may send webhooks to loopback addresses."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.webhook_tables import webhook, webhook_attempt
from tests.clocks import set_clock
from tests.engines import transact
from tests.service import Service, new_tenant, running, sku
from tests.webhooks.stock import MAIN, OTHER


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """Run the service with a tenant of two warehouses and two SKUs."""
    async with running(database_url, webhooks_to_loopback=True) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN, OTHER], [sku("A"), sku("B")])
        yield service
        await set_clock(database, None)

        async def clear(connection: AsyncConnection) -> None:
            # A worker delivers the webhooks of all tests.
            for table in (webhook_attempt, webhook):
                await connection.execute(delete(table))

        await transact(database, clear)
