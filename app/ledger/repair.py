"""Repairs derived figures from the ledger; the ledger itself is never changed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Final

from msgspec import structs
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)

from app.database.clocks import Present
from app.database.columns import occurrence_of
from app.database.engine import Database
from app.database.parameters import TENANT, as_json, rows_from
from app.database.session import DriverSession
from app.database.tables import (
    LEVEL_KEY,
    adjustment,
    ledger_sum,
    reservation_count,
    sku,
    sku_count,
    stock_level,
    warehouse,
)
from app.domain.quantities import Figures, total_figures
from app.domain.records import LevelRecord, WarehouseRecord, empty_level
from app.domain.words import stored_words
from app.ledger.derived_figures import (
    counted_skus,
    held_of_level,
    skus_with_words,
    wrong_reservation_counts,
    wrong_reserved_of_warehouses,
    wrong_sums,
    wrong_words,
)
from app.ledger.replay import level_name, stream_rows
from app.ledger.rollup import roll_up_ledger
from app.reads.warehouses import get_warehouses
from app.writes.rows import word_rows
from app.writes.statements import delete_words, insert_words

REPAIR_BATCH_SKUS: Final = 500
# A count of SKUs: the warehouse id (empty for all warehouses) and the status.
CountKey = tuple[str, str]


async def repair_tenant(database: Database, tenant_id: str) -> list[str]:
    """Derive levels, SKUs and their words, counts and rollups again.

    Returns a message for each wrong figure. The ledger must have been verified. Each transaction
    holds the lane of the tenant: writes wait while a batch of SKUs, their words, the counts or the
    rollups are repaired.
    """
    messages: list[str] = []
    after: str | None = ""
    while after is not None:
        after, batch = await database.write(partial(_repair_skus, tenant_id, after), tenant_id)
        messages += batch
    messages += await database.write(partial(_repair_counts, tenant_id), tenant_id)
    messages += await database.write(partial(_repair_reservation_counts, tenant_id), tenant_id)
    messages += await database.write(partial(_repair_warehouses, tenant_id), tenant_id)
    messages += await _repair_words(database, tenant_id)
    return messages + await _repair_rollups(database, tenant_id)


async def _repair_skus(
    tenant_id: str, after: str, session: DriverSession
) -> tuple[str | None, list[str]]:
    """Repair the next batch of SKUs; returns the last code, or None without further SKUs."""
    page = (
        select(sku.c.sku, sku.c.status, sku.c.available, sku.c.archived_at)
        .where(sku.c.tenant_id == tenant_id, sku.c.sku > after)
        .order_by(sku.c.sku)
        .limit(REPAIR_BATCH_SKUS)
    )
    skus = await session.execute(page)
    if not skus:
        return None, []
    statement = _levels_with_last_entries(skus[0].sku, skus[-1].sku)
    archived = {row.sku: row.archived_at for row in skus}
    levels = await session.execute(statement, {"tenant_id": tenant_id})
    ids = sorted({level.warehouse_id for level in levels})
    warehouses = await get_warehouses(session, tenant_id, ids=ids)
    messages: list[str] = []
    figures: dict[str, list[Figures]] = {}
    for level in levels:
        derived = _figures(level, warehouses[level.warehouse_id])
        messages += await _repair_level(session, level, derived, archived_at=archived[level.sku])
        figures.setdefault(level.sku, []).append(derived)
    for row in skus:
        total = total_figures(figures.get(row.sku, []))
        right = {"status": total.status, "available": total.available}
        wrong = {name: value for name, value in right.items() if getattr(row, name) != value}
        if wrong:
            await _update_sku(session, tenant_id, row.sku, **wrong)
        messages += [
            f"{name} of SKU {row.sku} was {getattr(row, name)}, and is {value}"
            for name, value in wrong.items()
        ]
    return skus[-1].sku, messages


def _levels_with_last_entries(first: str, last: str) -> Select[Any]:
    entry = adjustment.alias("entry").c
    newest, latest = (
        select(func.max(value))
        .where(
            entry.tenant_id == TENANT,
            *(entry[name] == stock_level.c[name] for name in LEVEL_KEY[1:]),
        )
        .correlate(stock_level)
        .scalar_subquery()
        for value in (entry.position, occurrence_of(entry))
    )
    is_newest = (adjustment.c.tenant_id == TENANT) & (adjustment.c.position == newest)
    return (
        select(
            stock_level,
            *(adjustment.c.after_quantity, adjustment.c.sequence, adjustment.c.created_at),
            latest.label("latest_occurrence"),
            *held_of_level(),
        )
        .select_from(stock_level.join(adjustment, is_newest, isouter=True))
        .where(
            stock_level.c.tenant_id == TENANT,
            stock_level.c.sku >= first,
            stock_level.c.sku <= last,
        )
        .order_by(stock_level.c.sku, stock_level.c.warehouse_id)
    )


def _figures(level: Row[Any], warehouse: WarehouseRecord) -> LevelRecord:
    return structs.replace(
        empty_level(level.sku, warehouse),
        on_hand=level.after_quantity or 0,
        reserved=level.held,
        safety_stock=level.safety_stock,
        reorder_point=level.reorder_point,
    )


async def _repair_level(
    session: DriverSession, level: Row[Any], figures: Figures, *, archived_at: datetime | None
) -> list[str]:
    derived: dict[str, Any] = {
        "on_hand": figures.on_hand,
        "reserved": figures.reserved,
        "version": level.sequence or 0,
        "adjusted_at": level.created_at,
        "occurred_until": level.latest_occurrence,
        "status": figures.status,
        "archived_at": archived_at,
        "holds": level.held_by,
    }
    wrong = {name: value for name, value in derived.items() if getattr(level, name) != value}
    if wrong:
        is_level = [stock_level.c[name] == getattr(level, name) for name in LEVEL_KEY]
        await session.execute(update(stock_level).where(*is_level).values(wrong))
        await _update_sku(session, level.tenant_id, level.sku)
    return [
        f"{name} of stock level {level_name(level)} was {getattr(level, name)}, and is {value}"
        for name, value in wrong.items()
    ]


async def _update_sku(session: DriverSession, tenant_id: str, code: str, **values: object) -> None:
    """Change a SKU and its version, which its ETag contains."""
    await session.execute(
        update(sku)
        .where(sku.c.tenant_id == tenant_id, sku.c.sku == code)
        .values(version=sku.c.version + 1, updated_at=Present(), **values)
    )


async def _repair_words(database: Database, tenant_id: str) -> list[str]:
    """Repair the words of SKUs in batches.

    One read without the lane finds all SKUs with wrong words. Words have no index by SKU, so a read
    for each batch would read all words of the tenant again.
    """
    wrong: dict[str, set[str]] = {}
    async with database.reading() as session:
        await session.lift_time_limits()
        async for words in wrong_words(stream_rows(session, tenant_id, skus_with_words())):
            wrong[words.sku] = words.stored
    messages: list[str] = []
    codes = list(wrong)
    # After the read: a pool of one connection has none for writes beside it.
    for start in range(0, len(codes), REPAIR_BATCH_SKUS):
        batch = {code: wrong[code] for code in codes[start : start + REPAIR_BATCH_SKUS]}
        messages += await database.write(partial(_replace_words, tenant_id, batch), tenant_id)
    return messages


async def _replace_words(
    tenant_id: str, stored: Mapping[str, set[str]], session: DriverSession
) -> list[str]:
    """Replace the stored words of SKUs by those of the present titles."""
    codes = rows_from(session.dialect, "rows", {"sku": Text()})
    titles = select(sku.c.sku, sku.c.title).where(
        sku.c.tenant_id == TENANT, sku.c.sku.in_(select(codes.c.sku))
    )
    parameters = {"tenant_id": tenant_id, "rows": as_json({"sku": code} for code in stored)}
    rows = await session.execute(titles.order_by(sku.c.sku), parameters)
    derived = {row.sku: stored_words(row.sku, row.title) for row in rows}
    old = {code: stored[code] - words for code, words in derived.items()}
    for change, words_of_skus in ((delete_words, old), (insert_words, derived)):
        rows_of_skus = (word_rows(code, words) for code, words in words_of_skus.items())
        changed = as_json(chain.from_iterable(rows_of_skus))
        await session.rows(change(session.dialect), {"tenant": tenant_id, "rows": changed})
    return [
        f"words of SKU {code} were {sorted(stored[code])}, and are {sorted(words)}"
        for code, words in derived.items()
    ]


async def _repair_counts(tenant_id: str, session: DriverSession) -> list[str]:
    await session.lift_statement_limit()
    rows = await session.execute(
        select(sku_count.c.warehouse_id, sku_count.c.status, sku_count.c.skus).where(
            sku_count.c.tenant_id == tenant_id
        )
    )
    stored = {(row.warehouse_id, row.status): row.skus for row in rows}
    counted = await session.execute(counted_skus(), {"tenant_id": tenant_id})
    derived: dict[CountKey, int] = {(row[0], row[1]): row[2] for row in counted}
    wrong = [
        key for key in sorted(stored.keys() | derived) if stored.get(key, 0) != derived.get(key, 0)
    ]
    await _replace_counts(session, tenant_id, wrong, derived)
    return [
        f"count of {status} SKUs in {warehouse_id or 'all warehouses'} was "
        f"{stored.get((warehouse_id, status), 0)}, and is {derived.get((warehouse_id, status), 0)}"
        for warehouse_id, status in wrong
    ]


async def _replace_counts(
    session: DriverSession,
    tenant_id: str,
    wrong: Sequence[CountKey],
    derived: Mapping[CountKey, int],
) -> None:
    for warehouse_id, status in wrong:
        key = {"tenant_id": tenant_id, "warehouse_id": warehouse_id, "status": status}
        await session.execute(delete(sku_count).where(*_is_row(sku_count, key)))
        if skus := derived.get((warehouse_id, status), 0):
            await session.insert(sku_count, [{**key, "skus": skus}])


async def _repair_reservation_counts(tenant_id: str, session: DriverSession) -> list[str]:
    await session.lift_statement_limit()
    statement = wrong_reservation_counts()
    wrong = await session.execute(statement, {"tenant_id": tenant_id})
    for row in wrong:
        key = {"tenant_id": tenant_id, "reference": row.reference, "status": row.status}
        await session.execute(delete(reservation_count).where(*_is_row(reservation_count, key)))
        await session.insert(reservation_count, [{**key, "reservations": row.derived}])
    return [
        f"count of {row.status} reservations{f' of {row.reference}' if row.reference else ''} was "
        f"{row.kept}, and is {row.derived}"
        for row in wrong
    ]


async def _repair_warehouses(tenant_id: str, session: DriverSession) -> list[str]:
    await session.lift_statement_limit()
    wrong = await session.execute(wrong_reserved_of_warehouses(), {"tenant_id": tenant_id})
    for row in wrong:
        key = {"tenant_id": tenant_id, "id": row.id}
        change = update(warehouse).where(*_is_row(warehouse, key)).values(reserved=row.derived)
        await session.execute(change)
    return [
        f"reserved of warehouse {row.id} was {row.reserved}, and is {row.derived}" for row in wrong
    ]


def _is_row(table: Table, key: Mapping[str, object]) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


async def _repair_rollups(database: Database, tenant_id: str) -> list[str]:
    """Delete the rollups from the first wrong one on, and store them again.

    A background job that read a wrong rollup before may store one more, so this repeats.
    """
    messages = []
    while (first := await _first_wrong_rollup(database, tenant_id)) is not None:
        await database.write(partial(_delete_rollups, tenant_id, first), tenant_id)
        while await roll_up_ledger(database, tenant_id):
            pass
        messages.append(
            f"rollups of the ledger from position {first} on were wrong, and are replaced"
        )
    return messages


async def _first_wrong_rollup(database: Database, tenant_id: str) -> int | None:
    async with database.reading() as session:
        await session.lift_time_limits()
        wrong = await session.rows(wrong_sums(), {"tenant_id": tenant_id})
    return wrong[0].until if wrong else None


async def _delete_rollups(tenant_id: str, first: int, session: DriverSession) -> None:
    await session.lift_statement_limit()
    is_tenant = ledger_sum.c.tenant_id == tenant_id
    await session.execute(delete(ledger_sum).where(is_tenant, ledger_sum.c.until >= first))
