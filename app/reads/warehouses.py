"""Reads of warehouses."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from msgspec.json import Decoder
from sqlalchemy import Select, Subquery, select

from app.database.parameters import TENANT, in_key_array
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import warehouse
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.reads.paging import MOST_LEVELS, PAGE_LIMIT

# SQLite has booleans as 1 and 0, which a strict decoder refuses.
WAREHOUSE_DECODER: Final = Decoder(list[WarehouseRecord], strict=False)

WAREHOUSE_COLUMNS: Final = tuple(
    warehouse.c[name] for name in WarehouseRecord.__struct_fields__ if name in warehouse.c
)


async def list_warehouses(
    snapshot: Snapshot, tenant_id: str, *, limit: int = MOST_LEVELS
) -> list[WarehouseRecord]:
    """Read the first warehouses by id, inactive ones included."""
    rows = await snapshot.rows(_first_warehouses(), {"tenant_id": tenant_id, "limit": limit})
    return [_warehouse_record(row) for row in rows]


async def get_warehouses(
    session: Session, tenant_id: str, *, ids: Sequence[str]
) -> dict[str, WarehouseRecord]:
    """Read warehouses by id; missing ids are absent."""
    statement = _warehouses_by_id(session.dialect)
    rows = await session.rows(statement, {"tenant_id": tenant_id, "ids": ids})
    return {row.id: _warehouse_record(row) for row in rows}


def _warehouse_record(row: Sequence[Any]) -> WarehouseRecord:
    """Convert a row of WAREHOUSE_COLUMNS."""
    id_, name, type_, address, marketplace, is_active = row
    return WarehouseRecord(id_, name, WarehouseType(type_), address, marketplace, bool(is_active))


@cache
def _first_warehouses() -> Select[Any]:
    return (
        select(*WAREHOUSE_COLUMNS)
        .where(warehouse.c.tenant_id == TENANT)
        .order_by(warehouse.c.id)
        .limit(PAGE_LIMIT)
    )


@cache
def _warehouses_by_id(dialect: str) -> Select[Any]:
    return select(*WAREHOUSE_COLUMNS).where(
        warehouse.c.tenant_id == TENANT, in_key_array(dialect, warehouse.c.id, "ids")
    )


def tenant_warehouses() -> Subquery:
    """Select the ids of all warehouses of the tenant."""
    return select(warehouse.c.id).where(warehouse.c.tenant_id == TENANT).subquery("warehouses")
