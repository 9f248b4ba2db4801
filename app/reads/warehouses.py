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
    session: Session, tenant_id: str, *, ids: Sequence[str] | None = None
) -> dict[str, WarehouseRecord]:
    """Read warehouses by id (None: all); missing ids are absent."""
    parameters: dict[str, object] = {"tenant_id": tenant_id}
    if ids is None:
        rows = await session.rows(_all_warehouses(), parameters)
    else:
        rows = await session.rows(_warehouses_by_id(session.dialect), {**parameters, "ids": ids})
    return {row.id: _warehouse_record(row) for row in rows}


def _warehouse_record(row: Sequence[Any]) -> WarehouseRecord:
    """Convert a row of WAREHOUSE_COLUMNS."""
    id_, name, type_, address, marketplace, is_active, is_sellable = row
    return WarehouseRecord(
        id_,
        name,
        WarehouseType(type_),
        address,
        marketplace,
        is_active=bool(is_active),
        is_sellable=bool(is_sellable),
    )


@cache
def _all_warehouses() -> Select[Any]:
    return select(*WAREHOUSE_COLUMNS).where(warehouse.c.tenant_id == TENANT)


@cache
def _first_warehouses() -> Select[Any]:
    return _all_warehouses().order_by(warehouse.c.id).limit(PAGE_LIMIT)


@cache
def _warehouses_by_id(dialect: str) -> Select[Any]:
    return _all_warehouses().where(in_key_array(dialect, warehouse.c.id, "ids"))


def tenant_warehouses() -> Subquery:
    """Select the ids of all warehouses of the tenant."""
    return select(warehouse.c.id).where(warehouse.c.tenant_id == TENANT).subquery("warehouses")
