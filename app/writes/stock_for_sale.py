"""Stock for sale: a warehouse that begins or ends to sell changes all SKUs with a level there."""

from functools import cache
from typing import Any, Final

from sqlalchemy import Select, bindparam, literal_column, or_, select

from app.database.parameters import TENANT
from app.database.session import Session
from app.database.tables import stock_level
from app.domain.records import SkuRecord
from app.domain.stock import Changes, Stock, turned_skus
from app.ledger.totals import ZERO
from app.reads.conditions import equals
from app.reads.skus import sku_records, skus_by_code
from app.writes.batch_changes import BatchChanges
from app.writes.posting import post

# Few enough that memory and the time of a statement do not depend on the size of the warehouse.
CHUNK_SKUS: Final = 500


async def post_stock_for_sale(
    session: Session, tenant_id: str, stock: Stock, changes: BatchChanges
) -> int:
    """Write the SKUs of the warehouses that begin or end to sell by a posted batch.

    The batch has read no SKUs: its only write needs to be alone (`Needs.is_alone`). Returns the
    position of the feed after all changes.
    """
    position = stock.last_change + len(changes.events)
    # The warehouses as they were before each turn.
    current = {before.id: before for before, _ in reversed(changes.turns)}
    for before, after in changes.turns:
        last = ""
        while codes := await _codes_in(session, tenant_id, before.id, last):
            last = codes[-1]
            records = await _records(session, tenant_id, codes)
            for level in (level for record in records.values() for level in record.levels):
                level.warehouse = current.get(level.warehouse_id, level.warehouse)
            chunk = Stock(
                now=stock.now,
                skus=records,
                last_entry_at=stock.last_entry_at,
                last_change=position,
            )
            chunk_changes = BatchChanges(chunk)
            chunk_changes.add(Changes(skus=turned_skus(records, after)), author="")
            await post(session, tenant_id, chunk, chunk_changes)
            position += len(chunk_changes.events)
        current[after.id] = after
    return position


async def _codes_in(session: Session, tenant_id: str, warehouse_id: str, after: str) -> list[str]:
    parameters = {"tenant_id": tenant_id, "warehouse_id": warehouse_id, "after": after}
    return [row.sku for row in await session.rows(_next_codes(), parameters)]


async def _records(session: Session, tenant_id: str, codes: list[str]) -> dict[str, SkuRecord]:
    parameters = {"tenant_id": tenant_id, "codes": codes}
    [row] = await session.rows(skus_by_code(session.dialect), parameters)
    return {record.sku: record for record in sku_records(row)}


@cache
def _next_codes() -> Select[Any]:
    """Select the next codes with a level in a warehouse that has any quantity."""
    level = stock_level.c
    quantities = (level.on_hand, level.reserved, level.safety_stock)
    return (
        select(level.sku)
        .where(
            level.tenant_id == TENANT,
            equals("warehouse_id")(level),
            level.sku > bindparam("after", type_=level.sku.type),
            or_(*(each > ZERO for each in quantities), level.reorder_point.is_not(None)),
        )
        .order_by(level.sku)
        .limit(literal_column(str(CHUNK_SKUS)))
    )
