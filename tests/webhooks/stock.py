"""Changes of stock that webhooks deliver."""

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.webhook_tables import webhook
from app.domain.webhooks import WebhookRecord
from app.reads.webhooks import get_webhooks
from app.writes.webhooks import SignedWebhook, create_webhook
from tests.engines import transact
from tests.graphql.operations import bulk_item
from tests.ledger.writes import BULK, SET
from tests.service import Service, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")


async def set_stock(service: Service, quantity: int, code: str = "A", where: str = MAIN.id) -> None:
    """Set the stock of one level."""
    given = {"sku": code, "warehouseId": where, "quantity": quantity, "reason": "cycle_count"}
    await service.data(SET, {"input": given})


async def set_many(service: Service, number: int) -> None:
    """Set one level as often as given, by bulks: each has two levels of two SKUs."""
    levels = [(code, where.id) for code in "AB" for where in (MAIN, OTHER)]
    for start in range(0, number, len(levels)):
        updates = [
            bulk_item(
                {
                    "sku": code,
                    "warehouseId": where,
                    "quantity": 1_000 + start,
                    "reason": "cycle_count",
                }
            )
            for code, where in levels
        ]
        await service.data(BULK, {"input": {"updates": updates}})


async def changes_of(service: Service) -> list[Any]:
    """Read the whole feed by REST."""
    answer = await service.rest("GET", "/api/inventory/changes?after=0&limit=1000")
    page: list[Any] = answer.json()["data"]
    return page


async def hook(service: Service, url: str, **options: Any) -> SignedWebhook:
    """Create a webhook."""
    return await create_webhook(service.database, service.tenant_id, url=url, **options)


async def state_of(service: Service, webhook_id: str) -> WebhookRecord:
    """Read a webhook."""
    async with service.database.snapshot(tenant_id=service.tenant_id) as snapshot:
        found = await get_webhooks(snapshot, service.tenant_id, ids=[webhook_id])
    return found[webhook_id]


async def row_of(service: Service, webhook_id: str) -> Any:
    """Read the row of a webhook, with its secrets and its lease."""

    async def read(connection: AsyncConnection) -> Any:
        return (await connection.execute(select(webhook).where(webhook.c.id == webhook_id))).one()

    return await transact(service.database, read)
