"""Posting: writes the changes of a decision to levels, ledger, SKUs and counts.

SQLite writes each table by one statement; its transaction has excluded all other writers.

PostgreSQL writes in a single statement if it can. That statement locks the SKU rows, sorted, so
that two writers never wait for each other in a circle. It goes on only if every SKU has the
version that was read and the idempotency key is new. Counts, which all writers share, are written
last. A posting of many SKUs under locks takes two statements: the outcome is encoded while the
first is running.

Every change of a level raises the version of its SKU, so the version stands for all its levels and
for the hash of the last ledger entry of each, which the next entry continues.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from msgspec import structs

from app.database.clocks import uptime
from app.database.parameters import as_json
from app.database.session import Session
from app.domain.hash_chain import POSTED_WITHIN
from app.domain.records import ReservationRecord, WarehouseRecord
from app.domain.stock import Stock
from app.writes.counts import hold_changes, reservation_count_changes, sku_count_changes
from app.writes.idempotency_keys import KeyRow, store_key
from app.writes.pipeline import MAX_OPTIMISTIC_SKUS
from app.writes.rows import (
    ChangedLevel,
    Posting,
    TableRow,
    changed_levels,
    line_row,
    reservation_row,
    rows_by_sku,
)
from app.writes.statements import (
    PostingShape,
    add_sku_counts_statement,
    insert_sku_statement,
    posting_statements,
    single_posting_statement,
    write_reservations_statements,
    write_warehouse_statement,
)


async def post(
    session: Session, key: KeyRow | None, *, tenant_id: str, before: Stock, posting: Posting
) -> bool:
    """Write a posting and store the idempotency key.

    Returns False, and the caller must roll back, if the stock has changed since it was read or the
    key is taken. The same if the stock was read too long ago: a head of the ledger may cover the
    time of the entries already.
    """
    if posting.entries and uptime() - before.read_at > POSTED_WITHIN.total_seconds():
        return False
    levels = changed_levels(before.skus, posting.after)
    counts = sku_count_changes(before.skus, posting.after, levels)
    gaining = _gaining_warehouses(levels)
    shape = PostingShape(
        has_key=key is not None,
        has_counts=bool(counts),
        has_increases=bool(gaining),
        has_new_levels=any(old is None for old, _ in levels),
    )
    if len(posting.entries) > MAX_OPTIMISTIC_SKUS:
        # Other requests get a turn of the event loop between the parts of long work.
        await asyncio.sleep(0)
    # The order of most indexes.
    rows = [sku_rows for _, sku_rows in sorted(rows_by_sku(tenant_id, before, posting).items())]
    parameters = {
        "tenant": tenant_id,
        "number_of_skus": len(rows),
        "skus": as_json(each.sku for each in rows),
        "levels": as_json(level for each in rows for level in each.levels),
        "adjustments": as_json(entry for each in rows for entry in each.adjustments),
        "counts": as_json(counts),
        "gaining": gaining,
        "number_of_gaining": len(gaining),
    }
    if session.dialect == "postgresql" and not (
        before.is_locked and len(rows) > MAX_OPTIMISTIC_SKUS
    ):
        parameters |= key.parameters if key else {}
        return bool(await session.rows(single_posting_statement(shape), parameters))
    return await _post_in_steps(session, key, shape, parameters)


async def _post_in_steps(
    session: Session, key: KeyRow | None, shape: PostingShape, parameters: dict[str, object]
) -> bool:
    levels, others = posting_statements(session.dialect, shape)
    first = asyncio.create_task(session.rows(levels, parameters))
    try:
        # The first statement starts, and the outcome is encoded while it runs.
        await asyncio.sleep(0)
        parameters = parameters | (key.parameters if key else {})
    finally:
        await first
    result = [row for statement in others for row in await session.rows(statement, parameters)]
    # Without a key, SQLite's statements have no row.
    return bool(result) or (key is None and session.dialect == "sqlite")


async def post_reservations(
    session: Session,
    key: KeyRow | None,
    *,
    tenant_id: str,
    before: Stock,
    posting: Posting,
    reservations: Sequence[ReservationRecord],
) -> bool:
    """Write reservations with their posting in a transaction; False as `post`."""
    if posting.after:
        posting = replace(posting, holds=hold_changes(reservations))
        is_posted = await post(session, key, tenant_id=tenant_id, before=before, posting=posting)
    else:
        is_posted = key is None or await store_key(session, key)
    if not is_posted:
        return False
    parameters = {
        "tenant": tenant_id,
        "reservations": as_json(map(reservation_row, reservations)),
        "lines": as_json(line_row(line) for each in reservations for line in each.lines),
        "counts": as_json(reservation_count_changes(reservations)),
    }
    for statement in write_reservations_statements(session.dialect):
        await session.rows(statement, parameters)
    return True


async def insert_sku(
    session: Session, key: KeyRow | None, *, tenant_id: str, row: TableRow
) -> bool:
    """Insert a SKU without stock in a transaction; False if the code exists or the key is taken."""
    if not await session.rows(insert_sku_statement(session.dialect), row):
        return False
    if key is not None and not await store_key(session, key):
        return False
    counts = as_json([{"warehouse_id": "", "status": row["status"], "skus": 1}])
    parameters = {"tenant": tenant_id, "counts": counts}
    await session.rows(add_sku_counts_statement(session.dialect), parameters)
    return True


async def write_warehouse(
    session: Session, key: KeyRow | None, *, tenant_id: str, warehouse: WarehouseRecord
) -> bool:
    """Insert or update a warehouse in a transaction; False if the key is taken."""
    row = {**structs.asdict(warehouse), "type": warehouse.type.value, "tenant_id": tenant_id}
    await session.rows(write_warehouse_statement(session.dialect), row)
    return key is None or await store_key(session, key)


def _gaining_warehouses(levels: Iterable[ChangedLevel]) -> list[str]:
    """Sorted ids of the warehouses where on_hand or reserved increases."""
    return sorted(
        {
            new.warehouse_id
            for old, new in levels
            if new.on_hand > (old.on_hand if old else 0)
            or new.reserved > (old.reserved if old else 0)
        }
    )
