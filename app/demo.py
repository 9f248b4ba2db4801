"""The demo tenant: 1,248 SKUs in the two warehouses of the published document, and an empty one.

SKU-001 is the example of the document. The data is the same at every start, because one seed
generates it.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.migration import drop_all, migrate, schema_connection
from app.database.schema import METADATA
from app.database.session import DriverSession
from app.database.tables import tenant
from app.domain.caller import Scope
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.seeding import LoadedCount, LoadedLevel, LoadedSku, load_skus, load_warehouses
from app.writes.tenants import DEMO_TENANT, insert_tenant, insert_token

DEMO_SKUS: Final = 1_248
DEMO_TOKENS: Final = {
    "demo-shop": Scope.AVAILABILITY,
    "demo-read": Scope.READ,
    "demo-write": Scope.WRITE,
    "demo-admin": Scope.ADMIN,
}
# As printed in the published document.
DOCUMENT_EMAIL: Final = "[email protected]"

WAREHOUSE_A: Final = "wh_01HXAAAAAAAAAAAAAAAAAAAAAA"
FBA_EU: Final = "wh_01HYAAAAAAAAAAAAAAAAAAAAAA"
# The destination of the first transfers: the other warehouses refuse or are the source.
WAREHOUSE_B: Final = "wh_01J0AAAAAAAAAAAAAAAAAAAAAA"
WAREHOUSES: Final = (
    WarehouseRecord(
        WAREHOUSE_A,
        "Warehouse A",
        WarehouseType.OWN,
        "Industriestraße 1, 12345 Berlin, DE",
        None,
        is_active=True,
    ),
    WarehouseRecord(FBA_EU, "FBA EU", WarehouseType.FBA, None, "amazon_eu", is_active=True),
    WarehouseRecord(
        WAREHOUSE_B,
        "Warehouse B",
        WarehouseType.OWN,
        "Hafenweg 7, 20457 Hamburg, DE",
        None,
        is_active=True,
    ),
)
DOCUMENT_ADJUSTMENT: Final = "adj_01HXAAAAAAAAAAAAAAAAAAAAAA"
# As in the examples of the REST reference.
EXAMPLE_RESERVATION: Final = "rsv_01HXAAAAAAAAAAAAAAAAAAAAAA"

COLOURS: Final = ("Blue", "Red", "Green", "Black", "White", "Amber", "Clear", "Silver")
THINGS: Final = ("Widget", "Bottle", "Lamp", "Cable", "Filter", "Bracket", "Kettle", "Notebook")
SIZES: Final = ("500ml", "1l", "250g", "2m", "Size M", "Size L", "10 pack", "XL")
PEOPLE: Final = ("anna@example.com", "bilal@example.com", "chen@example.com")


class NotADemoDatabase(Exception):
    """The database holds other data than an earlier demo."""


async def prepare_demo(database: Database) -> None:
    """Fill a database with fresh demo data; the data of an earlier demo is deleted.

    Raises:
        NotADemoDatabase: the database holds other data; nothing was changed.

    """
    async with schema_connection(database) as connection, connection.begin():
        await _empty(connection)
    await migrate(database)
    await database.transaction(_load)


async def _empty(connection: AsyncConnection) -> None:
    tables = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    if foreign := tables - set(METADATA.tables) - {"alembic_version"}:
        message = (
            f"The database has tables of another application: {', '.join(sorted(foreign))}. "
            "Choose an empty database."
        )
        raise NotADemoDatabase(message)
    if not tables:
        return
    if "tenant" in tables:
        tenant_ids = set(await connection.scalars(select(tenant.c.tenant_id)))
        if tenant_ids - {DEMO_TENANT}:
            message = (
                f"The database holds the tenants {', '.join(sorted(tenant_ids))}, which the demo "
                "would delete. Choose an empty database."
            )
            raise NotADemoDatabase(message)
    await connection.run_sync(drop_all)


async def _load(session: DriverSession) -> None:
    await insert_tenant(session, DEMO_TENANT, name="Demo")
    for token, scope in DEMO_TOKENS.items():
        await insert_token(
            session,
            DEMO_TENANT,
            token=token,
            name=token,
            email="demo@example.com",
            scopes=[scope],
        )
    await load_warehouses(session, DEMO_TENANT, WAREHOUSES)
    await load_skus(session, DEMO_TENANT, demo_skus())


def demo_skus() -> Iterator[LoadedSku]:
    """Yield the SKUs of the demo with their levels and history."""
    yield LoadedSku(
        sku="SKU-001",
        title="Blue Widget 500ml",
        levels=[
            LoadedLevel(
                warehouse_id=WAREHOUSE_A,
                reserved=18,
                safety_stock=15,
                history=_document_history(),
                reservation_id=EXAMPLE_RESERVATION,
            ),
            LoadedLevel(
                warehouse_id=FBA_EU,
                reserved=5,
                history=[
                    _count(120, "initial_stock", "2026-01-20T09:00:00Z"),
                    _count(137, "marketplace_sync", "2026-03-01T03:15:00Z"),
                ],
            ),
        ],
    )
    chance = random.Random(1248)  # noqa: S311 - the same data at every start
    for number in range(2, DEMO_SKUS + 1):
        yield _sku(number, chance)


def _document_history() -> list[LoadedCount]:
    return [
        _count(300, "initial_stock", "2026-01-12T08:30:00Z"),
        _count(288, "damage", "2026-02-03T10:05:00Z"),
        _count(450, "cycle_count", "2026-02-20T16:40:00Z"),
        LoadedCount(
            id=DOCUMENT_ADJUSTMENT,
            quantity=500,
            reason="supplier_receipt",
            note="PO-2026-0312 received",
            created_by=DOCUMENT_EMAIL,
            created_at=datetime(2026, 3, 12, 14, tzinfo=UTC),
        ),
        _count(420, "correction", "2026-03-19T07:20:00Z"),
        _count(350, "cycle_count", "2026-04-02T15:10:00Z"),
    ]


def _count(quantity: int, reason: str, created_at: str) -> LoadedCount:
    return LoadedCount(
        quantity=quantity,
        reason=reason,
        created_by=PEOPLE[0],
        created_at=datetime.fromisoformat(created_at),
    )


def _sku(number: int, chance: random.Random) -> LoadedSku:
    title = " ".join(chance.choice(words) for words in (COLOURS, THINGS, SIZES))
    ids = chance.sample([WAREHOUSE_A, FBA_EU], chance.randint(1, 2))
    levels = [_level(warehouse_id, chance) for warehouse_id in sorted(ids)]
    return LoadedSku(sku=f"SKU-{number:03}", title=title, levels=levels)


def _level(warehouse_id: str, chance: random.Random) -> LoadedLevel:
    on_hand = chance.choice([0, chance.randint(1, 40), chance.randint(50, 900)])
    created_at = datetime(2026, 1, 5, 8, tzinfo=UTC)
    quantities = [chance.randint(20, 900) for _ in range(chance.randint(0, 4))] + [on_hand]
    history = []
    for position, quantity in enumerate(quantities):
        created_at += timedelta(
            minutes=chance.randint(60, 20_000), milliseconds=chance.randint(0, 999)
        )
        history.append(
            LoadedCount(
                quantity=quantity,
                reason="initial_stock"
                if position == 0
                else chance.choice(["cycle_count", "supplier_receipt", "correction", "damage"]),
                created_by=chance.choice(PEOPLE),
                created_at=created_at,
            )
        )
    return LoadedLevel(
        warehouse_id=warehouse_id,
        reserved=chance.randint(0, on_hand // 5),
        safety_stock=chance.choice([0, 5, 10, 25]),
        history=history,
    )
