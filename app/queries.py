"""Every SELECT of the service.

Each function takes a snapshot and a tenant, and returns records. Statements are built once per
shape; lists are keyset pages, so the last page costs what the first does; the nested lists of many
parents are one statement.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial, reduce
from operator import add, sub
from typing import Any, Final

import orjson
from msgspec.json import Decoder
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    ScalarSelect,
    Select,
    Subquery,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, aggregate_order_by
from sqlalchemy.types import TypeEngine

from app.clocks import Present
from app.database import Key, Snapshot, as_json, rows_from, texts_in
from app.errors import QueryTooComplex
from app.models import (
    LEVEL,
    LINKS,
    UtcDateTime,
    adjustment,
    api_token,
    as_text,
    ledger_sum,
    reservation,
    reservation_count,
    reservation_line,
    sku,
    sku_count,
    stock_level,
    warehouse,
)
from app.models import tenant as tenant_table
from app.records import (
    AdjustmentFilter,
    AdjustmentRecord,
    Interval,
    LedgerTotals,
    LevelRecord,
    Order,
    ReservationFilter,
    ReservationLineRecord,
    ReservationRecord,
    ReservationStatus,
    Sign,
    SkuFilter,
    SkuRecord,
    WarehouseRecord,
)
from app.scheduling import in_pieces
from app.sessions import AnyRow, Session, Shapes
from app.stock import ARCHIVED, Status, WarehouseType
from app.sums import (
    BEGINNING,
    EMPTY,
    END,
    HALF,
    IN_COMMON,
    ZERO,
    Columns,
    Group,
    beginning,
    earliest,
    halves_of,
    is_of_group,
    summed_until,
)

# One stock level as (SKU, warehouse id), or all levels of a SKU as (SKU, None).
LevelKey = tuple[str, str | None]
# The ledger of a SKU as (SKU, None), of a stock level as (SKU, warehouse id), or of a warehouse as
# (None, warehouse id).
LedgerKey = tuple[str | None, str | None]
# The names of what a key of a ledger says.
Named = frozenset[str]
# Where an adjustment stands in a list: when, sequence, id.
AdjustmentPosition = tuple[datetime, int, str]
Conditions = Mapping[str, Callable[[Columns], ColumnElement[bool]]]

# SQLite has no other truth than 1 and 0.
WAREHOUSES: Final = Decoder(list[WarehouseRecord], strict=False)
SKUS: Final = Decoder(list[SkuRecord])

# Of each list, one statement for every set of filters.
shaped: Final = Shapes()
LIMIT: Final = bindparam("limit", type_=BigInteger)
# No id of a warehouse has one.
SPACE: Final = literal_column("' '", Text)
# PostgreSQL plans once for all values of a parameter, and takes a limit that it does not know for
# a tenth of the table: a constant one tells it that a page is short.
LONGEST: Final = literal_column("201", BigInteger)

# The most stock levels, or warehouses, that a statement reads unless it is given fewer.
MOST_LEVELS: Final = 1_000_000
# The most lines of reservations that a statement reads, and its limit.
MOST_LINES: Final = 25_000
LINES: Final = literal_column(str(MOST_LINES + 1), BigInteger)

SKU_COLUMNS: Final = (sku.c.sku, sku.c.title, sku.c.version, sku.c.archived_at)
WAREHOUSE_COLUMNS: Final = (
    warehouse.c.id,
    warehouse.c.name,
    warehouse.c.type,
    warehouse.c.address,
    warehouse.c.marketplace,
    warehouse.c.is_active,
)
STOCK_COLUMNS: Final = (
    stock_level.c.on_hand,
    stock_level.c.reserved,
    stock_level.c.safety_stock,
    stock_level.c.version,
    stock_level.c.adjusted_at,
    stock_level.c.synced_at,
)
ADJUSTMENT_COLUMNS: Final = (
    adjustment.c.id,
    adjustment.c.sku,
    adjustment.c.warehouse_id,
    adjustment.c.sequence,
    adjustment.c.before_quantity,
    adjustment.c.after_quantity,
    adjustment.c.reason,
    adjustment.c.note,
    adjustment.c.created_by,
    adjustment.c.created_at,
    adjustment.c.bulk_id,
    adjustment.c.transfer_id,
    adjustment.c.reservation_id,
    adjustment.c.reversal_of,
    adjustment.c.reference,
)

# What is looked through for the adjustments of which something is told.
ENTRY_COLUMNS: Final = tuple(
    adjustment.c[name]
    for name in (*LEVEL[1:], "reason", "created_by", "reference", "created_at", "delta")
)
RESERVATION_COLUMNS: Final = (
    reservation.c.id,
    reservation.c.status,
    reservation.c.reference,
    reservation.c.note,
    reservation.c.created_by,
    reservation.c.created_at,
    reservation.c.expires_at,
    reservation.c.ended_at,
    reservation.c.version,
)
LINE_COLUMNS: Final = (
    reservation_line.c.reservation_id,
    reservation_line.c.sku,
    reservation_line.c.warehouse_id,
    reservation_line.c.quantity,
    reservation_line.c.held,
    reservation_line.c.committed,
)


def _is_held(columns: Columns) -> ColumnElement[bool]:
    held: ColumnElement[int] = columns.held
    return held > literal_column("0", BigInteger)


def _stands(status: ReservationStatus) -> Callable[[Columns], ColumnElement[bool]]:
    # Written out: few reservations are open, or nearly all, and an index may be of those alone.
    return lambda columns: columns.status == literal_column(f"'{status.value}'", Text)


def _equals(name: str) -> Callable[[Columns], ColumnElement[bool]]:
    return lambda columns: columns[name] == bindparam(name, type_=Key)


SKU_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    "warehouse_id": _equals("warehouse_id"),
    "status": _equals("status"),
    "sku": _equals("sku"),
    "after": lambda columns: columns.sku > bindparam("after", type_=Text),
    "before": lambda columns: columns.sku < bindparam("before", type_=Text),
    "listed": lambda columns: columns.archived_at.is_(None),
    "archived": lambda columns: columns.archived_at.is_not(None),
}
# Archived SKUs are counted apart, under a prefix of their status.
IS_ARCHIVED: Final = sku_count.c.status.startswith(ARCHIVED, autoescape=True)
COUNT_CONDITIONS: Final[Conditions] = {
    **{name: SKU_CONDITIONS[name] for name in ("tenant_id", "warehouse_id")},
    "status": lambda columns: (
        func.replace(columns.status, ARCHIVED, "") == bindparam("status", type_=Key)
    ),
    "listed": lambda _: ~IS_ARCHIVED,
    "archived": lambda _: IS_ARCHIVED,
}
ADJUSTMENT_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    "sku": _equals("sku"),
    "warehouse_id": _equals("warehouse_id"),
    "reason": _equals("reason"),
    **{name: _equals(name) for name in ("created_by", *LINKS)},
    "start": lambda columns: columns.created_at >= bindparam("start", type_=UtcDateTime),
    "end": lambda columns: columns.created_at < bindparam("end", type_=UtcDateTime),
    Sign.INCREASE: lambda columns: columns.delta > 0,
    Sign.DECREASE: lambda columns: columns.delta < 0,
    Sign.UNCHANGED: lambda columns: columns.delta == 0,
    "after": lambda columns: (
        tuple_(columns.created_at, columns.sequence, columns.id)
        < tuple_(
            bindparam("after", type_=UtcDateTime),
            bindparam("after_sequence", type_=BigInteger),
            bindparam("after_id", type_=Text),
        )
    ),
}
RESERVATION_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    **{status.value: _stands(status) for status in ReservationStatus},
    "reference": _equals("reference"),
    "before": lambda columns: columns.id < bindparam("before", type_=Text),
}
HOLD_CONDITIONS: Final[Conditions] = {
    "tenant_id": _equals("tenant_id"),
    "before": lambda columns: columns.reservation_id < bindparam("before", type_=Text),
}

RESERVATION_COUNT_CONDITIONS: Final[Conditions] = {
    **{name: RESERVATION_CONDITIONS[name] for name in ("tenant_id", *ReservationStatus)},
    # None is empty: those of all are counted under that.
    "reference": lambda columns: _equals("reference")(columns) & (columns.reference != EMPTY),
    "all": lambda columns: columns.reference == EMPTY,
}

LEDGER_SUM_CONDITIONS: Final[Conditions] = {
    **{name: _equals(name) for name in ("warehouse_id", "reason", "created_by")},
    Sign.INCREASE: lambda columns: columns.sign > ZERO,
    Sign.DECREASE: lambda columns: columns.sign < ZERO,
    Sign.UNCHANGED: lambda columns: columns.sign == ZERO,
}

PERIOD: Final = {"start", "end"}
# What the sums of a group tell apart, and which group it is.
SUMMED: Final = {*LEDGER_SUM_CONDITIONS, *PERIOD, "sku", "reference"}

# How many parts a figure has until an end: those that follow are taken away from it.
UNTIL_END: Final = 2

# What the key of a ledger may say.
PARENTS: Final[Mapping[str, TypeEngine[Any]]] = {"sku": Text(), "warehouse_id": Text()}


@dataclass(frozen=True, slots=True)
class SkuPage:
    """A page of SKUs, and how many the whole list has."""

    records: Sequence[SkuRecord]
    total: int


async def list_skus(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: SkuFilter,
    after: str | None = None,
    order: Order = Order.ASCENDING,
    limit: int,
    most_levels: int = MOST_LEVELS,
) -> SkuPage:
    """Return a page of SKUs by code, each with its levels, from after a code on, and the total.

    Raises:
        QueryTooComplex: the page has more levels than that; none was read.

    """
    parameters = {
        "tenant_id": tenant,
        "warehouse_id": where.warehouse_id,
        "status": where.status,
        "sku": where.sku,
        **_archived(where.archived),
        "after" if order is Order.ASCENDING else "before": after,
    }
    statement = _skus_page(snapshot.dialect, _asked(parameters), order)
    parameters |= {"limit": limit, "most_levels": most_levels}
    [row] = await snapshot.rows(statement, parameters)
    if row.is_wide:
        raise _too_wide(most_levels)
    return SkuPage(sku_records(row, warehouse_id=where.warehouse_id), int(row.total))


async def get_skus(
    snapshot: Snapshot,
    tenant: str,
    *,
    codes: Sequence[str],
    warehouse_id: str | None = None,
    most_levels: int = MOST_LEVELS,
) -> dict[str, SkuRecord]:
    """Return SKUs by code, each with its levels: all of them, or the one in a warehouse.

    Raises:
        QueryTooComplex: several SKUs have more levels than that; none was read.

    """
    parameters: dict[str, object] = {
        "tenant_id": tenant,
        "warehouse_id": warehouse_id,
        "codes": codes,
    }
    has_few_levels = warehouse_id is not None or len(codes) == 1
    if has_few_levels:
        statement = skus_by_code(snapshot.dialect, narrowed=warehouse_id is not None)
    else:
        statement = _narrow_skus_by_code(snapshot.dialect)
        parameters |= {"limit": len(codes), "most_levels": most_levels}
    [row] = await snapshot.rows(statement, parameters)
    if not has_few_levels and row.is_wide:
        raise _too_wide(most_levels)
    records = sku_records(row, warehouse_id=warehouse_id)
    return {record.sku: record for record in records}


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


async def list_levels_of_warehouses(
    snapshot: Snapshot,
    tenant: str,
    *,
    warehouses: Sequence[WarehouseRecord],
    status: Status | None,
    archived: bool | None = False,
    after: str | None,
    limit: int,
) -> dict[str, list[LevelRecord]]:
    """Return for each warehouse a page of its levels by SKU code, from after a code on."""
    parameters = {
        "tenant_id": tenant,
        "status": status,
        "after": after,
        **_archived(archived),
    }
    statement = _levels_of_warehouses(snapshot.dialect, _asked(parameters))
    parents = as_json({"warehouse_id": place.id} for place in warehouses)
    places = {place.id: place for place in warehouses}
    pages: dict[str, list[LevelRecord]] = {id_: [] for id_ in places}
    rows = await snapshot.rows(statement, {**parameters, "parents": parents, "limit": limit})
    for id_, code, on_hand, reserved, safety_stock, version, adjusted_at, synced_at in rows:
        figures = (on_hand, reserved, safety_stock)
        level = LevelRecord(*figures, version, adjusted_at, synced_at, id_)
        level.sku, level.warehouse = code, places[id_]
        pages[id_].append(level)
    return pages


async def count_levels_of_warehouses(
    snapshot: Snapshot,
    tenant: str,
    *,
    ids: Sequence[str],
    status: Status | None,
    archived: bool | None = False,
) -> dict[str, int]:
    """Return for each warehouse how many levels it has, from counts that every write keeps."""
    parameters = {"tenant_id": tenant, "status": status, **_archived(archived)}
    statement = _levels_count(snapshot.dialect, _asked(parameters))
    rows = await snapshot.rows(statement, {**parameters, "ids": ids})
    return dict.fromkeys(ids, 0) | {row.warehouse_id: int(row.skus) for row in rows}


async def list_adjustments(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: AdjustmentFilter,
    after: AdjustmentPosition | None = None,
    limit: int,
) -> list[AdjustmentRecord]:
    """Return a page of the ledger, newest first, from after a position on."""
    parameters = _adjustment_parameters(tenant, where, after)
    statement = _adjustments_page(snapshot.dialect, _asked(parameters))
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return adjustment_records(rows)


async def count_adjustments(snapshot: Snapshot, tenant: str, *, where: AdjustmentFilter) -> int:
    """Return how many adjustments match."""
    parameters = _adjustment_parameters(tenant, where, None)
    statement = _adjustments_count(snapshot.dialect, _asked(parameters))
    [row] = await snapshot.rows(statement, {**parameters, **_end_of(where)})
    return int(row[0])


async def sum_adjustments(
    snapshot: Snapshot, tenant: str, *, where: AdjustmentFilter
) -> LedgerTotals:
    """Return what the adjustments that match come to."""
    parameters = _adjustment_parameters(tenant, where, None)
    statement = _adjustments_sum(snapshot.dialect, _asked(parameters))
    [parts] = await snapshot.rows(statement, {**parameters, **_end_of(where)})
    return _difference(parts)


async def list_adjustments_of(
    snapshot: Snapshot,
    tenant: str,
    *,
    parents: Sequence[LedgerKey],
    where: AdjustmentFilter,
    after: AdjustmentPosition | None = None,
    limit: int,
) -> dict[LedgerKey, list[AdjustmentRecord]]:
    """Return for each parent, all of one kind, a page of its ledger, newest first."""
    by = named(parents[0])
    parameters = _adjustment_parameters(tenant, where, after)
    statement = _adjustments_of(snapshot.dialect, _asked(parameters), by)
    parameters |= {"parents": _levels_json(parents), "limit": limit}
    pages: dict[LedgerKey, list[AdjustmentRecord]] = {parent: [] for parent in parents}
    rows = await snapshot.rows(statement, parameters)
    for record in await in_pieces(adjustment_records, rows):
        code = record.sku if "sku" in by else None
        place = record.warehouse_id if "warehouse_id" in by else None
        pages[code, place].append(record)
    return pages


async def count_adjustments_of(
    snapshot: Snapshot, tenant: str, *, parents: Sequence[LedgerKey], where: AdjustmentFilter
) -> dict[LedgerKey, int]:
    """Return for each parent, all of one kind, how many of its adjustments match."""
    parameters = _adjustment_parameters(tenant, where, None)
    statement = _adjustments_count_of(snapshot.dialect, _asked(parameters), named(parents[0]))
    parameters |= {"parents": _levels_json(parents), **_end_of(where)}
    rows = await snapshot.rows(statement, parameters)
    return {(code, id_): int(number) for code, id_, number in rows}


async def sum_adjustments_of(
    snapshot: Snapshot, tenant: str, *, parents: Sequence[LedgerKey], where: AdjustmentFilter
) -> dict[LedgerKey, LedgerTotals]:
    """Return for each parent, all of one kind, what its adjustments that match come to."""
    parameters = _adjustment_parameters(tenant, where, None)
    statement = _adjustments_sum_of(snapshot.dialect, _asked(parameters), named(parents[0]))
    parameters |= {"parents": _levels_json(parents), **_end_of(where)}
    rows = await snapshot.rows(statement, parameters)
    return {(code, id_): _difference(parts) for code, id_, *parts in rows}


async def sum_adjustments_by_period(
    snapshot: Snapshot,
    tenant: str,
    *,
    skus: Sequence[LevelKey],
    start: datetime,
    end: datetime,
    interval: Interval,
) -> dict[LevelKey, dict[datetime, LedgerTotals]]:
    """Return for each SKU, as seen in one warehouse or in all, what its adjustments come to.

    That is by the start of each hour or day in which there are some, from `start` to before `end`.
    """
    found: dict[LevelKey, dict[datetime, LedgerTotals]] = {}
    for by in dict.fromkeys(map(named, skus)):
        parents = _levels_json(each for each in skus if named(each) == by)
        statement = _sums_by_period(snapshot.dialect, interval, by)
        parameters = {"tenant_id": tenant, "start": start, "end": end, "parents": parents}
        for row in await snapshot.rows(statement, parameters):
            found[row.sku, row.warehouse_id] = {
                datetime.fromisoformat(period).replace(tzinfo=UTC): ledger_totals([numbers])
                for period, *numbers in orjson.loads(row.periods or "[]")
            }
    return found


async def get_stock_as_of(
    snapshot: Snapshot, tenant: str, *, skus: Sequence[LevelKey], end: datetime
) -> dict[LevelKey, list[AdjustmentRecord]]:
    """Return for each SKU, as seen in one warehouse or in all, what made its stock before an end.

    That is the last adjustment before it of every level that had one, by warehouse id.
    """
    found: dict[LevelKey, list[AdjustmentRecord]] = {each: [] for each in skus}
    for view in dict.fromkeys(view for _, view in skus):
        codes = [code for code, seen in skus if seen == view]
        parameters = {"tenant_id": tenant, "warehouse_id": view, "codes": codes, "end": end}
        statement = _stock_as_of(snapshot.dialect, narrowed=view is not None)
        for row in await snapshot.rows(statement, {**parameters, "limit": 1}):
            found[row.sku, view].append(adjustment_record(row))
    return found


async def get_adjustment(snapshot: Snapshot, tenant: str, *, id_: str) -> AdjustmentRecord | None:
    """Return the adjustment of an id."""
    rows = await snapshot.rows(_adjustment_by_id(), {"tenant_id": tenant, "id": id_})
    return adjustment_record(rows[0]) if rows else None


async def list_adjustments_of_group(
    session: Session, tenant: str, *, name: str, id_: str, limit: int
) -> list[AdjustmentRecord]:
    """Return the adjustment of an `id`, or up to so many of a bulk or a transfer."""
    parameters = {"tenant_id": tenant, name: id_, "limit": limit}
    rows = await session.rows(_adjustments_of_group(name), parameters)
    return adjustment_records(rows)


async def get_reversals(
    session: Session, tenant: str, *, ids: Sequence[str]
) -> list[tuple[str, str]]:
    """Return which of some adjustments were reversed, each with the adjustment that did it."""
    rows = await session.rows(_reversals(session.dialect), {"tenant_id": tenant, "ids": ids})
    return [(row.reversal_of, row.id) for row in rows]


async def list_reservations(
    snapshot: Snapshot,
    tenant: str,
    *,
    where: ReservationFilter,
    after: str | None = None,
    limit: int,
) -> list[ReservationRecord]:
    """Return a page of reservations with their lines, newest first, from after an id on."""
    parameters = _reservation_parameters(tenant, where, after)
    statement = _reservations_page(snapshot.dialect, _asked(parameters))
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return reservation_records(_within_most_lines(rows))


async def count_reservations(snapshot: Snapshot, tenant: str, *, where: ReservationFilter) -> int:
    """Return how many reservations match, from counts that every write keeps."""
    parameters = _reservation_parameters(tenant, where, None)
    [row] = await snapshot.rows(
        _reservations_count(snapshot.dialect, _asked(parameters)), parameters
    )
    return int(row[0])


async def get_reservations(
    session: Session | Snapshot, tenant: str, *, ids: Sequence[str]
) -> dict[str, ReservationRecord]:
    """Return reservations with their lines, by id."""
    statement = reservations_by_id(session.dialect)
    rows = await session.rows(statement, {"tenant_id": tenant, "ids": ids})
    return {record.id: record for record in reservation_records(_within_most_lines(rows))}


async def list_holds_of(
    snapshot: Snapshot,
    tenant: str,
    *,
    levels: Sequence[LevelKey],
    after: str | None,
    limit: int,
) -> dict[LevelKey, list[ReservationLineRecord]]:
    """Return for each level a page of what open reservations hold of it, newest first."""
    parameters: dict[str, object] = {"tenant_id": tenant, "before": after}
    statement = _holds_of(snapshot.dialect, _asked(parameters))
    parameters |= {"parents": _levels_json(levels), "limit": limit}
    pages: dict[LevelKey, list[ReservationLineRecord]] = {level: [] for level in levels}
    for row in await snapshot.rows(statement, parameters):
        pages[row.sku, row.warehouse_id].append(ReservationLineRecord(*tuple(row)))
    return pages


async def count_holds_of(
    snapshot: Snapshot, tenant: str, *, levels: Sequence[LevelKey]
) -> dict[LevelKey, int]:
    """Return for each level how many open reservations hold some of it."""
    parameters = {"tenant_id": tenant, "parents": _levels_json(levels)}
    rows = await snapshot.rows(_holds_count_of(snapshot.dialect), parameters)
    return dict.fromkeys(levels, 0) | {(row.sku, row.warehouse_id): row.holds for row in rows}


async def list_due_reservations(
    session: Session | Snapshot, tenant: str, *, limit: int
) -> list[str]:
    """Return the ids of open reservations whose time is over, the longest first."""
    rows = await session.rows(_due(), {"tenant_id": tenant, "limit": limit})
    return [row.id for row in rows]


async def permits_oversell(session: Session, tenant: str, *, locked: bool) -> bool:
    """Whether a tenant permits overselling; `locked`: until the transaction ends."""
    statement = _permission(locked=locked and session.dialect == "postgresql")
    rows = await session.rows(statement, {"tenant_id": tenant})
    return rows[0].permits_oversell_since is not None


async def list_tenants(snapshot: Snapshot) -> list[str]:
    """Return the ids of all tenants: for operators, never for a tenant."""
    rows = await snapshot.rows(
        select(tenant_table.c.tenant_id).order_by(tenant_table.c.tenant_id), {}
    )
    return [row.tenant_id for row in rows]


async def list_tokens(snapshot: Snapshot, tenant_id: str) -> list[dict[str, object]]:
    """Return what is kept of a tenant's tokens, oldest first."""
    statement = (
        select(
            api_token.c.id,
            api_token.c.name,
            api_token.c.email,
            api_token.c.scopes,
            api_token.c.created_at,
            api_token.c.expires_at,
            api_token.c.revoked_at,
            api_token.c.last_used_at,
        )
        .where(_equals("tenant_id")(api_token.c))
        .order_by(api_token.c.created_at, api_token.c.id)
    )
    rows = await snapshot.rows(statement, {"tenant_id": tenant_id})
    return [
        {
            name: as_text(value) if isinstance(value, datetime) else value
            for name, value in zip(statement.selected_columns.keys(), row, strict=True)
        }
        for row in rows
    ]


def warehouse_record(row: Sequence[Any]) -> WarehouseRecord:
    """Return a row of WAREHOUSE_COLUMNS as a record."""
    id_, name, type_, address, marketplace, is_active = row
    return WarehouseRecord(id_, name, WarehouseType(type_), address, marketplace, bool(is_active))


def adjustment_record(row: Row[Any]) -> AdjustmentRecord:
    """Return a row of ADJUSTMENT_COLUMNS as a record."""
    return AdjustmentRecord(*tuple(row))


def adjustment_records(rows: Iterable[Row[Any]]) -> list[AdjustmentRecord]:
    """Return rows of ADJUSTMENT_COLUMNS as records."""
    return [adjustment_record(row) for row in rows]


def ledger_totals(sums: Iterable[Sequence[int]]) -> LedgerTotals:
    """Return the totals of all that some rows of SUMS tell."""
    columns = [sum(column) for column in zip(*sums, strict=True)] or [0] * 5
    entries, upper_increase, increase, upper_decrease, decrease = columns
    return LedgerTotals(
        entries,
        increase=(upper_increase << HALF) + increase,
        decrease=-((upper_decrease << HALF) + decrease),
    )


def sku_records(row: Sequence[Any], *, warehouse_id: str | None = None) -> list[SkuRecord]:
    """Return a row of `with_stock` as records.

    Of SKUs that are seen in one warehouse alone, those without a level there are left out.
    """
    skus, warehouses = row[:2]
    # PostgreSQL says null of no rows.
    places = {place.id: place for place in WAREHOUSES.decode(warehouses or "[]")}
    records = SKUS.decode(skus or "[]")
    for record in records:
        code = record.sku
        record.warehouse_id = warehouse_id
        for level in record.levels:
            level.sku = code
            level.warehouse = places[level.warehouse_id]
            level.view = warehouse_id
    if warehouse_id is None:
        return records
    return [record for record in records if record.levels]


def reservation_records(rows: Iterable[Sequence[Any]]) -> list[ReservationRecord]:
    """Return rows of RESERVATION_COLUMNS and LINE_COLUMNS, those of one together, as records."""
    reservations: dict[str, ReservationRecord] = {}
    lines: list[ReservationLineRecord] = []
    for row in rows:
        id_, status, *rest = row[:9]
        if id_ not in reservations:
            lines = []
            kept: Any = (id_, ReservationStatus(status), *rest, lines)
            reservations[id_] = ReservationRecord(*kept)
        lines.append(ReservationLineRecord(*row[9:]))
    return [*reservations.values()]


def _too_wide(most_levels: int) -> QueryTooComplex:
    return QueryTooComplex(
        f"The SKUs have more than {most_levels} stock levels. Ask for a smaller page.",
        details=[{"limit": "levels", "most": most_levels}],
    )


def _within_most_lines(rows: Sequence[AnyRow]) -> Sequence[AnyRow]:
    """Refuse reservations of which not all lines were read.

    Raises:
        QueryTooComplex: there are more lines than a statement reads.

    """
    if len(rows) > MOST_LINES:
        message = f"The reservations have more than {MOST_LINES} lines. Ask for a smaller page."
        raise QueryTooComplex(message, details=[{"limit": "lines", "most": MOST_LINES}])
    return rows


def _reservation_parameters(
    tenant: str, where: ReservationFilter, after: str | None
) -> dict[str, object]:
    return {
        "tenant_id": tenant,
        **({where.status.value: True} if where.status else {}),
        "reference": where.reference,
        "before": after,
    }


def _adjustment_parameters(
    tenant: str, where: AdjustmentFilter, after: AdjustmentPosition | None
) -> dict[str, object]:
    instant, sequence, id_ = after or (None, None, None)
    return {
        "tenant_id": tenant,
        "sku": where.sku,
        "warehouse_id": where.warehouse_id,
        "reason": where.reason,
        "created_by": where.created_by,
        "bulk_id": where.bulk_id,
        "transfer_id": where.transfer_id,
        "reservation_id": where.reservation_id,
        "reference": where.reference,
        "start": where.start,
        "end": where.end,
        "after": instant,
        "after_sequence": sequence,
        "after_id": id_,
        **({} if where.sign is None else {where.sign: True}),
    }


def _end_of(where: AdjustmentFilter) -> dict[str, object]:
    """Return the end of a period, which `_figures` is told whether it is said or not.

    A period that ends before it starts ends as it starts.
    """
    return {"end": max(where.start or BEGINNING, where.end or END)}


def named(key: LedgerKey) -> Named:
    """Return the names of what a key of a ledger says, which is what kind of a key it is."""
    return frozenset(name for name, said in zip(PARENTS, key, strict=True) if said is not None)


def _levels_json(parents: Iterable[LedgerKey]) -> str:
    return as_json({"sku": code, "warehouse_id": id_} for code, id_ in parents)


def _archived(archived: bool | None) -> dict[str, object]:  # noqa: FBT001 - what a filter says
    """Return the condition on archived SKUs, if there is one."""
    return {} if archived is None else {"archived" if archived else "listed": True}


def _asked(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the parameters that have a value: the shape of a statement."""
    return frozenset(name for name, value in parameters.items() if value is not None)


def _all_of(
    conditions: Conditions, asked: frozenset[str], columns: Columns
) -> list[ColumnElement[bool]]:
    return [condition(columns) for name, condition in conditions.items() if name in asked]


@shaped
def _skus_page(dialect: str, asked: frozenset[str], order: Order) -> Select[Any]:
    source = _source(asked)
    columns = SKU_COLUMNS if source is sku else (source.c.sku,)
    longest = (
        select(source.c.tenant_id, *columns)
        .where(*_all_of(SKU_CONDITIONS, asked, source.c))
        .order_by(_in_order(source.c.sku, order))
        .limit(LONGEST)
        .subquery("longest")
    )
    page_of = select(longest).order_by(_in_order(longest.c.sku, order))
    narrowed = "warehouse_id" in asked
    is_wide = literal_column("0") if narrowed else _is_wide(page_of.limit(LIMIT))
    page = page_of.limit(LIMIT if narrowed else _unless(is_wide)).subquery("page")
    if source is not sku:
        # Joined before the limit, it may be joined to the whole table.
        found = page.join(sku, _same_sku(page.c, sku.c))
        page = select(sku.c.tenant_id, *SKU_COLUMNS).select_from(found).subquery("skus")
    total = _skus_count(asked - {"after", "before"}).label("total")
    statement = with_stock(dialect, page, narrowed=narrowed, order=order)
    return statement.add_columns(total, is_wide.label("is_wide"))


def _is_wide(skus: Select[Any]) -> ColumnElement[int]:
    """1 if up to `limit` SKUs have more than `most_levels` levels, else 0.

    Levels are counted only where there are enough warehouses for so many.
    """
    most: ColumnElement[int] = bindparam("most_levels", type_=BigInteger)
    mine = _equals("tenant_id")(warehouse.c)
    each = select(literal_column("1")).select_from(warehouse).where(mine).limit(most).subquery()
    warehouses = select(func.count()).select_from(each).scalar_subquery()
    of_page = skus.subquery("counted")
    level = (
        select(literal_column("1"))
        .select_from(of_page.join(stock_level, _same_sku(of_page.c, stock_level.c)))
        .limit(most + literal_column("1"))
        .subquery()
    )
    levels = select(func.count()).select_from(level).scalar_subquery()
    zero, one = literal_column("0", BigInteger), literal_column("1", BigInteger)
    return case((LIMIT * warehouses <= most, zero), (levels > most, one), else_=zero)


def _unless(is_wide: ColumnElement[int]) -> ColumnElement[int]:
    return case((is_wide > literal_column("0"), literal_column("0", BigInteger)), else_=LIMIT)


@cache
def _narrow_skus_by_code(dialect: str) -> Select[Any]:
    """SKUs of `codes` with all their levels, unless there are too many levels."""
    found = select(sku.c.tenant_id, *SKU_COLUMNS).where(
        SKU_CONDITIONS["tenant_id"](sku.c), texts_in(dialect, sku.c.sku, "codes")
    )
    is_wide = _is_wide(found)
    skus = found.limit(_unless(is_wide)).subquery("skus")
    return with_stock(dialect, skus, narrowed=False).add_columns(is_wide.label("is_wide"))


def _source(asked: frozenset[str]) -> FromClause:
    """Return where a list of SKUs is found: by their levels if it is that of a warehouse."""
    return stock_level if "warehouse_id" in asked else sku


@cache
def skus_by_code(
    dialect: str, *, narrowed: bool, more: tuple[ColumnElement[Any], ...] = ()
) -> Select[Any]:
    """Return what finds SKUs of `codes` with all their levels, or that of `warehouse_id`."""
    skus = (
        select(sku.c.tenant_id, *SKU_COLUMNS)
        .where(SKU_CONDITIONS["tenant_id"](sku.c), texts_in(dialect, sku.c.sku, "codes"))
        .subquery("skus")
    )
    return with_stock(dialect, skus, narrowed=narrowed, more=more)


def with_stock(
    dialect: str,
    skus: FromClause,
    *,
    narrowed: bool,
    order: Order = Order.ASCENDING,
    more: tuple[ColumnElement[Any], ...] = (),
) -> Select[Any]:
    """Return what tells SKUs with all their levels, or the one in a warehouse, in a single row.

    That is the warehouses that there are levels in, and the SKUs: JSON arrays of the values of
    their columns, because hundreds of rows cost several times as much to take in as one of text.
    `more` columns stand last in each level.
    """
    values = (*STOCK_COLUMNS, stock_level.c.warehouse_id, *more)

    def is_level_of(columns: Columns) -> ColumnElement[bool]:
        same = _same_sku(columns, stock_level.c)
        return same & SKU_CONDITIONS["warehouse_id"](stock_level.c) if narrowed else same

    def in_order(found: FromClause, *more: ColumnElement[Any]) -> Select[Any]:
        columns = [found.c[it.name] for it in SKU_COLUMNS]
        return select(*columns, found.c.levels, *more).order_by(_in_order(found.c.sku, order))

    own: Any
    found: Any
    if dialect == "postgresql":
        # In one pass: to keep what is found, and to read it twice, takes a tenth longer.
        by_place = aggregate_order_by(_array(dialect, *values), stock_level.c.warehouse_id)
        levels = func.coalesce(func.json_agg(by_place), literal_column("'[]'", JSON))
        ids = func.string_agg(stock_level.c.warehouse_id, SPACE)
        own = select(levels.label("levels"), ids.label("ids")).where(is_level_of(skus.c))
        each = own.lateral("each")
        joined = select(skus, each).select_from(skus.join(each, true())).subquery("joined")
        rows = in_order(joined, joined.c.ids).subquery("rows")
        *columns, ids_of_sku = rows.c
        all_ids = func.string_agg(ids_of_sku, SPACE).label("ids")
        found = select(_json_agg(*columns).label("skus"), all_ids).subquery("found")
        told = found.c.skus
        has_level = warehouse.c.id == any_(func.string_to_array(found.c.ids, SPACE))
    else:
        own = select(*values).where(is_level_of(skus.c)).order_by(stock_level.c.warehouse_id)
        found = select(skus, _json_rows(dialect, own.correlate(skus)).label("levels")).cte("found")
        told = _json_rows(dialect, in_order(found), nested="levels").label("skus")
        places = select(stock_level.c.warehouse_id).where(is_level_of(found.c))
        has_level = warehouse.c.id.in_(places)
    of_places = (
        select(*WAREHOUSE_COLUMNS)
        .where(
            _equals("tenant_id")(warehouse.c),
            warehouse.c.id == bindparam("warehouse_id", type_=Key) if narrowed else has_level,
        )
        .correlate(found)
    )
    statement: Select[Any] = select(told, _json_rows(dialect, of_places).label("warehouses"))
    return statement


def _json_rows(dialect: str, rows: Select[Any], *, nested: str = "") -> ScalarSelect[str]:
    """Return the JSON text of rows in their order, each an array of its values.

    SQLite forgets that what is `nested` is JSON already.
    """
    each = rows.subquery()
    if dialect == "postgresql":
        return select(_json_agg(*each.c)).scalar_subquery()
    values = [func.json(it) if it.key == nested else it for it in each.c]
    return select(func.json_group_array(_array(dialect, *values), type_=Text)).scalar_subquery()


def _json_agg(*columns: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(func.json_agg(_array("postgresql", *columns)), Text)


def _same_sku(left: Columns, right: Columns) -> ColumnElement[bool]:
    return and_(left.tenant_id == right.tenant_id, left.sku == right.sku)


def _in_order(code: ColumnElement[str], order: Order) -> ColumnElement[str]:
    return code if order is Order.ASCENDING else code.desc()


def _skus_count(asked: frozenset[str]) -> ScalarSelect[int]:
    """Return how many SKUs match: from counts that every write keeps, unless it is about one."""
    if "sku" in asked:
        source = _source(asked)
        conditions = _all_of(SKU_CONDITIONS, asked, source.c)
        return select(func.count()).select_from(source).where(*conditions).scalar_subquery()
    conditions = _all_of(COUNT_CONDITIONS, asked, sku_count.c)
    if "warehouse_id" not in asked:
        conditions.append(sku_count.c.warehouse_id == "")
    skus = cast(func.coalesce(func.sum(sku_count.c.skus), 0), BigInteger)
    return select(skus).where(*conditions).scalar_subquery()


@shaped
def _levels_count(dialect: str, asked: frozenset[str]) -> Select[Any]:
    return (
        select(sku_count.c.warehouse_id, func.sum(sku_count.c.skus).label("skus"))
        .where(
            *_all_of(COUNT_CONDITIONS, asked, sku_count.c),
            texts_in(dialect, sku_count.c.warehouse_id, "ids"),
        )
        .group_by(sku_count.c.warehouse_id)
    )


@cache
def _all_warehouses() -> Select[Any]:
    return (
        select(*WAREHOUSE_COLUMNS)
        .where(_equals("tenant_id")(warehouse.c))
        .order_by(warehouse.c.id)
        .limit(LIMIT)
    )


@cache
def warehouses_by_id(dialect: str) -> Select[Any]:
    """Return what finds warehouses of `ids`."""
    return select(*WAREHOUSE_COLUMNS).where(
        _equals("tenant_id")(warehouse.c), texts_in(dialect, warehouse.c.id, "ids")
    )


@shaped
def _levels_of_warehouses(dialect: str, asked: frozenset[str]) -> Select[Any]:
    parents = rows_from(dialect, "parents", {"warehouse_id": Text()})
    return _pages_of(
        dialect,
        parents,
        stock_level,
        (stock_level.c.warehouse_id, stock_level.c.sku, *STOCK_COLUMNS),
        where=lambda columns: [
            *_all_of(SKU_CONDITIONS, asked, columns),
            columns.warehouse_id == parents.c.warehouse_id,
        ],
        order=lambda columns: [columns.warehouse_id, columns.sku],
    )


@shaped
def _adjustments_page(dialect: str, asked: frozenset[str]) -> Select[Any]:
    by_level = {"sku", "warehouse_id"} <= asked and not _is_period(asked)
    if _is_by_reason_alone(asked):
        places = _places()
        return _pages_of(
            dialect,
            places,
            adjustment,
            ADJUSTMENT_COLUMNS,
            where=lambda columns: [
                *_adjustment_conditions(asked, columns, by_level=False),
                columns.warehouse_id == places.c.id,
            ],
            order=lambda columns: _newest_first(columns, by_level=False),
        ).limit(LIMIT)
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(*_adjustment_conditions(asked, adjustment.c, by_level=by_level))
        .order_by(*_newest_first(adjustment.c, by_level=by_level))
        .limit(LIMIT)
    )


@shaped
def _adjustments_count(dialect: str, asked: frozenset[str]) -> Select[Any]:
    if _is_numbered(asked):
        return select(_numbers(asked))
    return select(_count(dialect, asked)).where(_is_mine())


@shaped
def _adjustments_sum(dialect: str, asked: frozenset[str]) -> Select[Any]:
    return select(*_figures(dialect, asked, partial(_sums_in, dialect))).where(_is_mine())


def _is_mine() -> ColumnElement[bool]:
    return _equals("tenant_id")(tenant_table.c)


def _count(
    dialect: str,
    asked: frozenset[str],
    parents: FromClause | None = None,
    by: Named = frozenset(),
) -> ColumnElement[int]:
    """Return how many adjustments match, for a tenant or for each parent."""
    figures = _figures(dialect, asked, _count_in, parents, by)
    number = reduce(add, figures[:UNTIL_END])
    return reduce(sub, figures[UNTIL_END:], number)


def _figures(
    dialect: str,
    asked: frozenset[str],
    figure: Callable[[FromClause], ColumnElement[Any]],
    parents: FromClause | None = None,
    by: Named = frozenset(),
) -> list[ScalarSelect[Any]]:
    """Return a figure of adjustments, for a tenant or for each parent, in some parts.

    Those of a group are what its last sum before the end says, and what follows that in the ledger;
    then, to be taken away, the same before the start. Few are part of anything else: they are read.
    """
    outer = [it for it in (tenant_table, parents) if it is not None]

    def part(
        table: FromClause, known: frozenset[str], *more: ColumnElement[bool]
    ) -> ScalarSelect[Any]:
        conditions = LEDGER_SUM_CONDITIONS if table is ledger_sum else ADJUSTMENT_CONDITIONS
        # Of the tenant's row: what depends on another row is not worth other processes' start.
        mine = table.c.tenant_id == tenant_table.c.tenant_id

        def told(columns: Columns, among: frozenset[str]) -> list[ColumnElement[bool]]:
            of_parent = [] if parents is None else _of_parent(columns, parents, by & among)
            return [*_all_of(conditions, known & among, columns), *of_parent]

        if table is adjustment and narrow:
            # Found by that alone, for which there is an index by time, and looked through: little
            # may have a reference, or be of a SKU, and much be in its warehouse or by its person.
            in_order = _newest_first(adjustment.c, by_level=False)
            found = select(*ENTRY_COLUMNS).where(mine, *more, *told(adjustment.c, narrow))
            # The offset keeps it apart.
            found = found.order_by(*in_order).offset(literal_column("0")).correlate(*outer)
            table = found.subquery("entries")
            wanted = select(figure(table)).where(*told(table.c, (known | by) - narrow))
        else:
            wanted = select(figure(table)).where(mine, *more, *told(table.c, known | by))
        return wanted.select_from(table).correlate(*outer).scalar_subquery()

    def until(name: str) -> list[ScalarSelect[Any]]:
        end = bindparam(name, type_=UtcDateTime)
        limit = earliest(dialect, summed_until(dialect), end)
        sums = is_of_group(group, names)
        mine = ledger_sum.c.tenant_id == tenant_table.c.tenant_id
        found = select(func.max(ledger_sum.c.until)).where(mine, *sums, ledger_sum.c.until <= limit)
        last = found.correlate(*outer).scalar_subquery()
        at, since = adjustment.c.created_at, func.coalesce(last, beginning(), type_=UtcDateTime)
        return [
            part(ledger_sum, asked, *sums, ledger_sum.c.until == last),
            part(adjustment, asked - PERIOD, *anywhere, at >= since, at < end),
        ]

    asked -= {"tenant_id"}
    if not asked | by <= SUMMED:
        narrow = asked - SUMMED
        return [part(adjustment, asked)]
    group = _group_of(asked | by)
    narrow = frozenset(IN_COMMON[group])
    names = {
        name: bindparam(name, type_=Key) if parents is None or name in asked else parents.c[name]
        for name in IN_COMMON[group]
    }
    anywhere = [_is_anywhere(dialect)] if _is_by_reason_alone(asked | by) else []
    return until("end") + (until("start") if "start" in asked else [])


def _group_of(known: frozenset[str]) -> Group:
    """Return the group of adjustments of which something is known."""
    if "reference" in known:
        return Group.SKU_OF_REFERENCE if "sku" in known else Group.REFERENCE
    return Group.SKU if "sku" in known else Group.LEDGER


def _is_anywhere(dialect: str) -> ColumnElement[bool]:
    """Return the condition to be in any warehouse, by which an index finds those of a reason."""
    ids = select(_places().c.id).scalar_subquery()
    if dialect == "postgresql":
        return adjustment.c.warehouse_id == any_(func.array(ids, type_=ARRAY(Text)))
    return adjustment.c.warehouse_id.in_(ids)


def _count_in(table: FromClause) -> ColumnElement[int]:
    number: ColumnElement[int] = func.count()
    if table is ledger_sum:
        number = func.coalesce(func.sum(table.c.entries), ZERO)
    return number.label("entries")


def _sums_in(dialect: str, table: FromClause) -> ColumnElement[str]:
    if table is ledger_sum:
        halves = ledger_sum.c.delta_upper, ledger_sum.c.delta_lower
        return _array(dialect, *_sums(_count_in(table), halves, ledger_sum.c.sign))
    return _array(dialect, *sums_of(table.c.delta))


def _difference(parts: Sequence[str]) -> LedgerTotals:
    """Return the totals of what `_figures` finds until an end, without what there is at a start."""
    sums = [orjson.loads(part) for part in parts]
    before = [[-number for number in part] for part in sums[UNTIL_END:]]
    return ledger_totals([*sums[:UNTIL_END], *before])


def _is_numbered(asked: frozenset[str], by: Named = frozenset()) -> bool:
    """Tell whether the numbers of adjustments, level by level, say how many match."""
    known = asked | by
    return "sku" in known and known <= {*LEVEL, *PERIOD}


def _numbers(asked: frozenset[str], *of_parent: ColumnElement[bool]) -> ScalarSelect[int]:
    """Return how many adjustments levels have, or have had from a start to an end.

    They are numbered in their order, and a level's version is the number of the last one.
    """
    number = _last_before("end") if "end" in asked else stock_level.c.version
    if "start" in asked:
        number -= _last_before("start")
    of_levels = _all_of(ADJUSTMENT_CONDITIONS, asked - PERIOD, stock_level.c)
    return (
        select(func.coalesce(func.sum(number), 0)).where(*of_levels, *of_parent).scalar_subquery()
    )


def _last_before(name: str) -> ColumnElement[int]:
    """Return the number of a stock level's last adjustment before an instant, or 0."""
    last = (
        select(adjustment.c.sequence)
        .where(
            *(adjustment.c[it] == stock_level.c[it] for it in LEVEL),
            adjustment.c.created_at < bindparam(name, type_=UtcDateTime),
        )
        .order_by(adjustment.c.created_at.desc(), adjustment.c.sequence.desc())
        .limit(literal_column("1"))
        .correlate(stock_level)
    )
    return func.coalesce(last.scalar_subquery(), ZERO)


def _is_by_reason_alone(asked: frozenset[str]) -> bool:
    """Tell whether the index by warehouse and reason serves, warehouse by warehouse."""
    return "reason" in asked and asked.isdisjoint({"sku", "warehouse_id", "created_by", *LINKS})


def _places() -> Subquery:
    return select(warehouse.c.id).where(_equals("tenant_id")(warehouse.c)).subquery("places")


@shaped
def _adjustments_of(dialect: str, asked: frozenset[str], by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    by_level = {"sku", "warehouse_id"} <= by | asked and not _is_period(asked)
    return _pages_of(
        dialect,
        parents,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_adjustment_conditions(asked, columns, by_level=by_level),
            *_of_parent(columns, parents, by),
        ],
        order=lambda columns: _newest_first(columns, by_level=by_level),
    )


@shaped
def _adjustments_count_of(dialect: str, asked: frozenset[str], by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    # A number per parent, and not one of all in groups: that might read the ledger of all SKUs.
    if _is_numbered(asked, by):
        number: ColumnElement[int] = _numbers(asked, *_of_parent(stock_level.c, parents, by))
    else:
        number = _count(dialect, asked, parents, by)
    return _of_parents(parents, number)


@shaped
def _adjustments_sum_of(dialect: str, asked: frozenset[str], by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    return _of_parents(parents, *_figures(dialect, asked, partial(_sums_in, dialect), parents, by))


def _of_parents(parents: FromClause, *figures: ColumnElement[Any]) -> Select[Any]:
    mine = parents.join(tenant_table, _is_mine())
    return select(parents.c.sku, parents.c.warehouse_id, *figures).select_from(mine)


@cache
def _sums_by_period(dialect: str, interval: Interval, by: Named) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    asked = frozenset({"tenant_id", "start", "end"})
    # In their order, lest PostgreSQL takes an index without the time and reads all of a SKU.
    entries = (
        select(adjustment.c.created_at, adjustment.c.delta)
        .where(
            *_all_of(ADJUSTMENT_CONDITIONS, asked, adjustment.c),
            *_of_parent(adjustment.c, parents, by),
        )
        .order_by(*_newest_first(adjustment.c, by_level=False))
        .correlate(parents)
        .subquery("entries")
    )
    period = _period_of(dialect, interval, entries.c.created_at)
    periods = (
        select(period.label("period"), *sums_of(entries.c.delta))
        .group_by(period)
        .subquery("periods")
    )
    # As one value per parent, so that each is found by its own index seek on both engines.
    all_of = func.json_agg if dialect == "postgresql" else func.json_group_array
    of_parent = select(all_of(_array(dialect, *periods.c))).scalar_subquery()
    return select(parents.c.sku, parents.c.warehouse_id, of_parent.label("periods"))


def sums_of(number: ColumnElement[int]) -> Sequence[ColumnElement[int]]:
    """Return how many numbers there are, and the sums of the positive and of the negative ones.

    Each sum is that of the upper halves, then that of the lower ones.
    """
    return _sums(func.count(), halves_of(number), number)


def _sums(
    entries: ColumnElement[int], halves: Sequence[ColumnElement[int]], sign: ColumnElement[int]
) -> Sequence[ColumnElement[int]]:
    sums = [
        func.coalesce(func.sum(half).filter(is_of_sign), ZERO)
        for is_of_sign in (sign > ZERO, sign < ZERO)
        for half in halves
    ]
    return [it.label(f"sum_{place}") for place, it in enumerate((entries, *sums))]


def _array(dialect: str, *values: ColumnElement[Any]) -> ColumnElement[str]:
    make = func.json_build_array if dialect == "postgresql" else func.json_array
    return make(*values, type_=Text)


def _period_of(
    dialect: str, interval: Interval, instant: ColumnElement[datetime]
) -> ColumnElement[str]:
    """Return the hour or the day of an instant, as ISO 8601 writes it."""
    if dialect == "postgresql":
        words = {Interval.HOUR: "'YYYY-MM-DD\"T\"HH24'", Interval.DAY: "'YYYY-MM-DD'"}
        in_utc = func.timezone(literal_column("'UTC'"), instant)
        return func.to_char(in_utc, literal_column(words[interval]), type_=Text)
    first: ColumnElement[int] = literal_column("1")
    length: ColumnElement[int] = literal_column("13" if interval is Interval.HOUR else "10")
    return func.substr(instant, first, length, type_=Text)


@cache
def _stock_as_of(dialect: str, *, narrowed: bool) -> Select[Any]:
    asked = frozenset({"tenant_id", "warehouse_id"} if narrowed else {"tenant_id"})
    levels = (
        select(stock_level.c.sku, stock_level.c.warehouse_id)
        .where(
            *_all_of(SKU_CONDITIONS, asked, stock_level.c),
            texts_in(dialect, stock_level.c.sku, "codes"),
        )
        .subquery("levels")
    )
    return _pages_of(
        dialect,
        levels,
        adjustment,
        ADJUSTMENT_COLUMNS,
        where=lambda columns: [
            *_all_of(ADJUSTMENT_CONDITIONS, frozenset({"tenant_id", "end"}), columns),
            *_of_parent(columns, levels, frozenset(PARENTS)),
        ],
        # The last of several in one millisecond is the one of the highest sequence.
        order=lambda columns: [
            columns.sku,
            columns.warehouse_id,
            columns.created_at.desc(),
            columns.sequence.desc(),
        ],
    )


@cache
def _adjustment_by_id() -> Select[Any]:
    return select(*ADJUSTMENT_COLUMNS).where(
        _equals("tenant_id")(adjustment.c), _equals("id")(adjustment.c)
    )


@cache
def _adjustments_of_group(name: str) -> Select[Any]:
    return (
        select(*ADJUSTMENT_COLUMNS)
        .where(_equals("tenant_id")(adjustment.c), _equals(name)(adjustment.c))
        .order_by(*_newest_first(adjustment.c, by_level=False))
        .limit(LIMIT)
    )


@cache
def _reversals(dialect: str) -> Select[Any]:
    return select(adjustment.c.reversal_of, adjustment.c.id).where(
        _equals("tenant_id")(adjustment.c), texts_in(dialect, adjustment.c.reversal_of, "ids")
    )


@shaped
def _reservations_page(_dialect: str, asked: frozenset[str]) -> Select[Any]:
    page = (
        select(reservation)
        .where(*_all_of(RESERVATION_CONDITIONS, asked, reservation.c))
        .order_by(reservation.c.id.desc())
        .limit(LONGEST)
        .subquery("longest")
    )
    page = select(page).order_by(page.c.id.desc()).limit(LIMIT).subquery("page")
    of_page = (reservation_line.c.tenant_id == page.c.tenant_id) & (
        reservation_line.c.reservation_id == page.c.id
    )
    return (
        select(*(page.c[it.name] for it in RESERVATION_COLUMNS), *LINE_COLUMNS)
        .select_from(page.join(reservation_line, of_page))
        .order_by(page.c.id.desc(), reservation_line.c.sku, reservation_line.c.warehouse_id)
        .limit(LINES)
    )


@shaped
def _reservations_count(_dialect: str, asked: frozenset[str]) -> Select[Any]:
    of = asked if "reference" in asked else asked | {"all"}
    conditions = _all_of(RESERVATION_COUNT_CONDITIONS, of, reservation_count.c)
    number = func.coalesce(func.sum(reservation_count.c.reservations), ZERO)
    return select(number).where(*conditions)


@cache
def reservations_by_id(dialect: str) -> Select[Any]:
    """Statement that finds reservations of `ids`."""
    same = (reservation_line.c.tenant_id == reservation.c.tenant_id) & (
        reservation_line.c.reservation_id == reservation.c.id
    )
    return (
        select(*RESERVATION_COLUMNS, *LINE_COLUMNS)
        .select_from(reservation.join(reservation_line, same))
        .where(_equals("tenant_id")(reservation.c), texts_in(dialect, reservation.c.id, "ids"))
        .order_by(reservation.c.id, reservation_line.c.sku, reservation_line.c.warehouse_id)
        .limit(LINES)
    )


@shaped
def _holds_of(dialect: str, asked: frozenset[str]) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    return _pages_of(
        dialect,
        parents,
        reservation_line,
        LINE_COLUMNS,
        where=lambda columns: [
            *_all_of(HOLD_CONDITIONS, asked, columns),
            _is_held(columns),
            *_of_parent(columns, parents, frozenset(PARENTS)),
        ],
        order=lambda columns: [
            columns.sku,
            columns.warehouse_id,
            columns.reservation_id.desc(),
        ],
    )


@cache
def _holds_count_of(dialect: str) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    is_parent = _of_parent(stock_level.c, parents, frozenset(PARENTS))
    levels = parents.join(stock_level, and_(*is_parent))
    mine = _equals("tenant_id")(stock_level.c)
    return select(*parents.c, stock_level.c.holds).select_from(levels).where(mine)


@cache
def _due() -> Select[Any]:
    return (
        select(reservation.c.id)
        .where(
            _equals("tenant_id")(reservation.c),
            _stands(ReservationStatus.OPEN)(reservation.c),
            reservation.c.expires_at <= Present(),
        )
        .order_by(reservation.c.expires_at)
        .limit(LIMIT)
    )


@cache
def _permission(*, locked: bool) -> Select[Any]:
    found = select(tenant_table.c.permits_oversell_since).where(
        _equals("tenant_id")(tenant_table.c)
    )
    return found.with_for_update(read=True) if locked else found


def _is_period(asked: frozenset[str]) -> bool:
    """Tell whether a list has a first or last instant, which an index by time finds."""
    return not asked.isdisjoint({"start", "end"})


def _adjustment_conditions(
    asked: frozenset[str], columns: Columns, *, by_level: bool
) -> list[ColumnElement[bool]]:
    if "after" not in asked:
        return _all_of(ADJUSTMENT_CONDITIONS, asked, columns)
    if by_level:
        # Within a level the sequence alone is the order, and its index serves it.
        before = columns.sequence < bindparam("after_sequence", type_=BigInteger)
        return [*_all_of(ADJUSTMENT_CONDITIONS, asked - {"after"}, columns), before]
    # A position of the list is before its end. Told both, an index is read from the end on.
    return _all_of(ADJUSTMENT_CONDITIONS, asked - {"end"}, columns)


def _newest_first(columns: Columns, *, by_level: bool) -> list[ColumnElement[Any]]:
    if by_level:
        return [columns.sequence.desc()]
    return [columns.created_at.desc(), columns.sequence.desc(), columns.id.desc()]


def _of_parent(columns: Columns, parents: FromClause, by: Named) -> list[ColumnElement[bool]]:
    return [columns[name] == parents.c[name] for name in PARENTS if name in by]


def _pages_of(
    dialect: str,
    parents: FromClause,
    table: FromClause,
    columns: Sequence[ColumnElement[Any]],
    *,
    where: Callable[[Columns], list[ColumnElement[bool]]],
    order: Callable[[Columns], list[ColumnElement[Any]]],
) -> Select[Any]:
    """Return the first rows of a table for every parent, each found by an index seek."""
    if dialect == "postgresql":
        page = (
            select(*columns).where(*where(table.c)).order_by(*order(table.c)).limit(LIMIT).lateral()
        )
        return select(*page.c).select_from(parents.join(page, true())).order_by(*order(page.c))
    inner = table.alias("page")
    page_rows: Select[Any] = (
        select(literal_column("page.rowid"))
        .select_from(inner)
        .where(*where(inner.c))
        .order_by(*order(inner.c))
        .limit(LIMIT)
        .correlate(parents)
    )
    found = literal_column(f"{table.description}.rowid").in_(page_rows)
    return select(*columns).select_from(parents.join(table, found)).order_by(*order(table.c))
