"""Reads of warehouses."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from msgspec.json import Decoder
from sqlalchemy import Select, Subquery, select

from app.database.parameters import in_key_array
from app.database.snapshot import Snapshot
from app.database.tables import warehouse
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.reads.conditions import equals
from app.reads.paging import MOST_LEVELS, PAGE_LIMIT

# SQLite has no other truth than 1 and 0.
WAREHOUSE_DECODER: Final = Decoder(list[WarehouseRecord], strict=False)

WAREHOUSE_COLUMNS: Final = (
    warehouse.c.id,
    warehouse.c.name,
    warehouse.c.type,
    warehouse.c.address,
    warehouse.c.marketplace,
    warehouse.c.is_active,
)


async def list_warehouses(
    snapshot: Snapshot, tenant: str, *, limit: int = MOST_LEVELS
) -> list[WarehouseRecord]:
    """Return the first warehouses by id, inactive ones too."""
    rows = await snapshot.rows(_all_warehouses(), {"tenant_id": tenant, "limit": limit})
    return [warehouse_record(row) for row in rows]


async def get_warehouses(
    snapshot: Snapshot, tenant: str, *, ids: Sequence[str]
) -> dict[str, WarehouseRecord]:
    """Return warehouses by id."""
    statement = warehouses_by_id(snapshot.dialect)
    rows = await snapshot.rows(statement, {"tenant_id": tenant, "ids": ids})
    return {row.id: warehouse_record(row) for row in rows}


def warehouse_record(row: Sequence[Any]) -> WarehouseRecord:
    """Return a row of WAREHOUSE_COLUMNS as a record."""
    id_, name, type_, address, marketplace, is_active = row
    return WarehouseRecord(id_, name, WarehouseType(type_), address, marketplace, bool(is_active))


@cache
def _all_warehouses() -> Select[Any]:
    return (
        select(*WAREHOUSE_COLUMNS)
        .where(equals("tenant_id")(warehouse.c))
        .order_by(warehouse.c.id)
        .limit(PAGE_LIMIT)
    )


@cache
def warehouses_by_id(dialect: str) -> Select[Any]:
    """Return what finds warehouses of `ids`."""
    return select(*WAREHOUSE_COLUMNS).where(
        equals("tenant_id")(warehouse.c), in_key_array(dialect, warehouse.c.id, "ids")
    )


def tenant_warehouses() -> Subquery:
    return select(warehouse.c.id).where(equals("tenant_id")(warehouse.c)).subquery("places")
