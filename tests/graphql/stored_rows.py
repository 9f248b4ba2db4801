"""Rows that the tests of access control insert beside the catalogue."""

import json
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.external_id_table import external_id
from app.database.tables import change
from tests.service import Service

EXTERNAL_ID: Final = "ID-OF-A"


async def insert_external_ids(
    service: Service, code: str, warehouse_id: str, connection: AsyncConnection
) -> None:
    """Insert an external id of a SKU and of a warehouse."""
    own = {"tenant_id": service.tenant_id, "namespace": "erp", "value": EXTERNAL_ID}
    await connection.execute(external_id.insert(), {**own, "kind": "sku", "sku": code})
    warehouse = {"kind": "warehouse", "warehouse_id": warehouse_id}
    await connection.execute(external_id.insert(), {**own, **warehouse})


async def insert_change(service: Service, warehouse_id: str, connection: AsyncConnection) -> None:
    """Insert a change of a warehouse into the feed."""
    body = {"after": {"name": "Hall of A", "type": "own", "is_active": True}}
    changed = {
        "tenant_id": service.tenant_id,
        "position": 1,
        "type": "warehouse_created",
        "warehouse_id": warehouse_id,
        "body": json.dumps(body),
        "created_at": datetime.now(UTC),
    }
    await connection.execute(change.insert(), changed)
