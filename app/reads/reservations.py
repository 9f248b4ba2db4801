"""Reads of reservations and of the stock that they hold."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)

from app.database.clocks import Present
from app.database.compilation import AnyRow
from app.database.parameters import TENANT, KeyValue, in_key_array, rows_from
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import (
    reservation,
    reservation_count,
    reservation_line,
    stock_level,
    warehouse,
)
from app.domain.filters import ReservationFilter
from app.domain.records import ReservationLineRecord, ReservationRecord, ReservationStatus
from app.errors import QueryTooComplex
from app.ledger.totals import EMPTY, ZERO, Columns
from app.reads.conditions import (
    PARENTS,
    Conditions,
    Filters,
    StockKey,
    conditions_of,
    equals,
    filters_of,
    of_tenant,
    parent_conditions,
    parents_json,
    shaped,
)
from app.reads.paging import LARGEST_PAGE, PAGE_LIMIT, pages_of_parents
from app.reads.persons import author_of

# A statement reads one line more than it may, to detect that there are too many.
MOST_LINES: Final = 25_000
# The lines in which the reservations of a SKU, a warehouse or a stock level are counted.
MOST_COUNTED_LINES: Final = 50_000
LINE_LIMIT: Final = bindparam("line_limit", type_=BigInteger)

RESERVATION_COLUMNS: Final = tuple(
    author_of(reservation) if field.name == "created_by" else reservation.c[field.name]
    for field in fields(ReservationRecord)
    if field.name != "lines"
)
LINE_COLUMNS: Final = tuple(
    reservation_line.c[field.name] for field in fields(ReservationLineRecord)
)


def _has_status(status: ReservationStatus) -> Callable[[Columns], ColumnElement[bool]]:
    # A literal, so that the planner knows how frequent it is and may use a partial index.
    return lambda columns: columns.status == literal_column(f"'{status.value}'", Text)


RESERVATION_CONDITIONS: Final[Conditions] = {
    "tenant_id": of_tenant,
    **{status.value: _has_status(status) for status in ReservationStatus},
    "reference": equals("reference"),
    "before": lambda columns: columns.id < bindparam("before", type_=Text),
}
# Conditions on the lines of reservations of a SKU, a warehouse or a stock level.
LINE_CONDITIONS: Final[Conditions] = {
    "tenant_id": of_tenant,
    "sku": equals("sku"),
    "warehouse_id": equals("warehouse_id"),
    # A line holds stock exactly while its reservation is open.
    ReservationStatus.OPEN.value: lambda columns: columns.held > ZERO,
    "before": lambda columns: columns.reservation_id < bindparam("before", type_=Text),
}
HOLD_CONDITIONS: Final[Conditions] = {
    "tenant_id": of_tenant,
    "before": lambda columns: columns.reservation_id < bindparam("before", type_=Text),
}
RESERVATION_COUNT_CONDITIONS: Final[Conditions] = {
    **{name: RESERVATION_CONDITIONS[name] for name in ("tenant_id", *ReservationStatus)},
    # The counts of all reservations have an empty reference, which a filter must not match.
    "reference": lambda columns: equals("reference")(columns) & (columns.reference != EMPTY),
    "all": lambda columns: columns.reference == EMPTY,
}


async def list_reservations(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    where: ReservationFilter,
    after: str | None = None,
    limit: int,
    most_lines: int = MOST_LINES,
) -> list[ReservationRecord]:
    """Read a page of reservations with their lines, newest first, starting after an id.

    Raises:
        QueryTooComplex: the page has more than `most_lines` lines; no further line is read.

    """
    parameters = _reservation_parameters(tenant_id, where, after)
    statement = _page_of_reservations(snapshot.dialect, filters_of(parameters))
    parameters |= {"limit": limit, "line_limit": most_lines + 1}
    rows = await snapshot.rows(statement, parameters)
    return reservation_records(within_line_limit(rows, most_lines))


async def count_reservations(
    snapshot: Snapshot, tenant_id: str, *, where: ReservationFilter
) -> int:
    """Count the matching reservations, from counts that every write maintains."""
    parameters = _reservation_parameters(tenant_id, where, None)
    statement = _reservation_count(snapshot.dialect, filters_of(parameters))
    [row] = await snapshot.rows(statement, parameters)
    return int(row[0])


async def count_reservations_of_stock(
    snapshot: Snapshot, tenant_id: str, *, where: ReservationFilter
) -> tuple[int, int]:
    """Count the reservations of a SKU, a warehouse or a stock level, and the lines read for it.

    The newest MOST_COUNTED_LINES lines are read.
    """
    parameters = _reservation_parameters(tenant_id, where, None)
    statement = _reservations_of_stock(snapshot.dialect, filters_of(parameters))
    parameters["line_limit"] = MOST_COUNTED_LINES
    [row] = await snapshot.rows(statement, parameters)
    return int(row.reservations), int(row.lines)


async def sum_held(snapshot: Snapshot, tenant_id: str, *, where: ReservationFilter) -> int:
    """Sum what open reservations hold of a SKU, a warehouse, a stock level or of all stock."""
    parameters = {"tenant_id": tenant_id, "sku": where.sku, "warehouse_id": where.warehouse_id}
    [row] = await snapshot.rows(_held(snapshot.dialect, filters_of(parameters)), parameters)
    return int(row[0])


async def get_reservations(
    session: Session | Snapshot, tenant_id: str, *, ids: Sequence[str], most_lines: int = MOST_LINES
) -> dict[str, ReservationRecord]:
    """Read reservations with their lines by id; missing ids are absent.

    Raises:
        QueryTooComplex: they have more than `most_lines` lines; no further line is read.

    """
    statement = reservations_by_id(session.dialect)
    parameters = {"tenant_id": tenant_id, "ids": ids, "line_limit": most_lines + 1}
    rows = within_line_limit(await session.rows(statement, parameters), most_lines)
    return {record.id: record for record in reservation_records(rows)}


async def list_holds_of(
    snapshot: Snapshot,
    tenant_id: str,
    *,
    levels: Sequence[StockKey],
    after: str | None,
    limit: int,
) -> dict[StockKey, list[ReservationLineRecord]]:
    """Read a page of the lines of open reservations of each stock level, newest first."""
    parameters: dict[str, object] = {"tenant_id": tenant_id, "before": after}
    statement = _pages_of_holds(snapshot.dialect, filters_of(parameters))
    parameters |= {"parents": parents_json(levels), "limit": limit}
    pages: dict[StockKey, list[ReservationLineRecord]] = {level: [] for level in levels}
    for row in await snapshot.rows(statement, parameters):
        pages[row.sku, row.warehouse_id].append(ReservationLineRecord(*tuple(row)))
    return pages


async def count_holds_of(
    snapshot: Snapshot, tenant_id: str, *, levels: Sequence[StockKey]
) -> dict[StockKey, int]:
    """Count the open reservations that hold stock of each level."""
    parameters = {"tenant_id": tenant_id, "parents": parents_json(levels)}
    rows = await snapshot.rows(_hold_counts(snapshot.dialect), parameters)
    return dict.fromkeys(levels, 0) | {(row.sku, row.warehouse_id): row.holds for row in rows}


async def list_due_reservations(
    session: Session | Snapshot, tenant_id: str, *, limit: int
) -> list[str]:
    """List the ids of open reservations that have expired, the earliest expiry first."""
    rows = await session.rows(_due_reservations(), {"tenant_id": tenant_id, "limit": limit})
    return [row.id for row in rows]


def reservation_records(rows: Iterable[Sequence[Any]]) -> list[ReservationRecord]:
    """Convert rows of RESERVATION_COLUMNS and LINE_COLUMNS; the rows of one are adjacent."""
    reservations: dict[str, ReservationRecord] = {}
    lines: list[ReservationLineRecord] = []
    width = len(RESERVATION_COLUMNS)
    for row in rows:
        id_, status, *rest = row[:width]
        if id_ not in reservations:
            lines = []
            values: Any = (id_, ReservationStatus(status), *rest, lines)
            reservations[id_] = ReservationRecord(*values)
        lines.append(ReservationLineRecord(*row[width:]))
    return [*reservations.values()]


def within_line_limit(rows: Sequence[AnyRow], most_lines: int) -> Sequence[AnyRow]:
    """Refuse too many rows of reservation lines.

    Raises:
        QueryTooComplex: there are more than `most_lines` lines.

    """
    if len(rows) > most_lines:
        message = f"The reservations have more than {most_lines} lines. Ask for a smaller page."
        raise QueryTooComplex(message, details=[{"limit": "lines", "most": most_lines}])
    return rows


def _reservation_parameters(
    tenant_id: str, where: ReservationFilter, after: str | None
) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        **({where.status.value: True} if where.status else {}),
        "reference": where.reference,
        "sku": where.sku,
        "warehouse_id": where.warehouse_id,
        "before": after,
    }


@shaped
def _page_of_reservations(_dialect: str, filters: Filters) -> Select[Any]:
    rows = select(reservation.c.tenant_id, *RESERVATION_COLUMNS)
    if filters & {"sku", "warehouse_id"}:
        ids = (
            select(reservation_line.c.reservation_id)
            .distinct()
            .where(*conditions_of(LINE_CONDITIONS, filters, reservation_line.c))
            .order_by(reservation_line.c.reservation_id.desc())
            .limit(LARGEST_PAGE)
            .subquery("ids")
        )
        is_listed = of_tenant(reservation.c) & (reservation.c.id == ids.c.reservation_id)
        rows = rows.select_from(ids.join(reservation, is_listed))
    else:
        rows = rows.where(*conditions_of(RESERVATION_CONDITIONS, filters, reservation.c))
    longest = rows.order_by(reservation.c.id.desc()).limit(LARGEST_PAGE).subquery("longest")
    page = select(longest).order_by(longest.c.id.desc()).limit(PAGE_LIMIT).subquery("page")
    is_line = (reservation_line.c.tenant_id == TENANT) & (
        reservation_line.c.reservation_id == page.c.id
    )
    return (
        select(*(page.c[column.name] for column in RESERVATION_COLUMNS), *LINE_COLUMNS)
        .select_from(page.join(reservation_line, is_line))
        .order_by(page.c.id.desc(), reservation_line.c.sku, reservation_line.c.warehouse_id)
        .limit(LINE_LIMIT)
    )


@shaped
def _reservation_count(_dialect: str, filters: Filters) -> Select[Any]:
    counted = filters if "reference" in filters else filters | {"all"}
    conditions = conditions_of(RESERVATION_COUNT_CONDITIONS, counted, reservation_count.c)
    number = func.coalesce(func.sum(reservation_count.c.reservations), ZERO)
    return select(number).where(*conditions)


@shaped
def _reservations_of_stock(_dialect: str, filters: Filters) -> Select[int, int]:
    lines = (
        select(reservation_line.c.reservation_id)
        .where(*conditions_of(LINE_CONDITIONS, filters, reservation_line.c))
        .order_by(reservation_line.c.reservation_id.desc())
        .limit(LINE_LIMIT)
        .subquery("lines")
    )
    number = func.count(lines.c.reservation_id.distinct())
    return select(number.label("reservations"), func.count().label("lines")).select_from(lines)


@shaped
def _held(_dialect: str, filters: Filters) -> Select[Any]:
    """Sum the reserved quantities of levels or, without a SKU, of warehouses."""
    table = stock_level if "sku" in filters else warehouse
    key = {"tenant_id": "tenant_id", "sku": "sku"}
    key["warehouse_id"] = "warehouse_id" if table is stock_level else "id"
    return select(cast(func.coalesce(func.sum(table.c.reserved), 0), BigInteger)).where(
        *(
            table.c[column] == bindparam(name, type_=KeyValue)
            for name, column in key.items()
            if name in filters
        )
    )


@cache
def reservations_by_id(dialect: str) -> Select[Any]:
    """Select the reservations of `ids` with their lines."""
    is_line = (reservation_line.c.tenant_id == TENANT) & (
        reservation_line.c.reservation_id == reservation.c.id
    )
    return (
        select(*RESERVATION_COLUMNS, *LINE_COLUMNS)
        .select_from(reservation.join(reservation_line, is_line))
        .where(reservation.c.tenant_id == TENANT, in_key_array(dialect, reservation.c.id, "ids"))
        .order_by(reservation.c.id, reservation_line.c.sku, reservation_line.c.warehouse_id)
        .limit(LINE_LIMIT)
    )


@shaped
def _pages_of_holds(dialect: str, filters: Filters) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    return pages_of_parents(
        dialect,
        parents,
        reservation_line,
        LINE_COLUMNS,
        where=lambda columns: [
            *conditions_of(HOLD_CONDITIONS, filters, columns),
            columns.held > ZERO,
            *parent_conditions(columns, parents, frozenset(PARENTS)),
        ],
        order=lambda columns: [
            columns.sku,
            columns.warehouse_id,
            columns.reservation_id.desc(),
        ],
    )


@cache
def _hold_counts(dialect: str) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    is_parent = parent_conditions(stock_level.c, parents, frozenset(PARENTS))
    levels = parents.join(stock_level, and_(*is_parent))
    return (
        select(*parents.c, stock_level.c.holds)
        .select_from(levels)
        .where(stock_level.c.tenant_id == TENANT)
    )


@cache
def _due_reservations() -> Select[Any]:
    return (
        select(reservation.c.id)
        .where(
            reservation.c.tenant_id == TENANT,
            _has_status(ReservationStatus.OPEN)(reservation.c),
            reservation.c.expires_at <= Present(),
        )
        .order_by(reservation.c.expires_at)
        .limit(PAGE_LIMIT)
    )
