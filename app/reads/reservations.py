"""Reads of reservations."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    func,
    literal_column,
    select,
)

from app.database.clocks import Present
from app.database.compilation import AnyRow
from app.database.parameters import in_key_array, rows_from
from app.database.session import Session
from app.database.snapshot import Snapshot
from app.database.tables import reservation, reservation_count, reservation_line, stock_level
from app.domain.filters import ReservationFilter
from app.domain.records import ReservationLineRecord, ReservationRecord, ReservationStatus
from app.errors import QueryTooComplex
from app.ledger.totals import EMPTY, ZERO, Columns
from app.reads.conditions import (
    PARENTS,
    Conditions,
    StockKey,
    conditions_of,
    equals,
    parameter_names,
    parent_conditions,
    parents_json,
    shaped,
)
from app.reads.paging import LARGEST_PAGE, PAGE_LIMIT, pages_of_parents

# The most lines of reservations that a statement reads, and its limit.
MOST_LINES: Final = 25_000
LINES: Final = literal_column(str(MOST_LINES + 1), BigInteger)

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


RESERVATION_CONDITIONS: Final[Conditions] = {
    "tenant_id": equals("tenant_id"),
    **{status.value: _stands(status) for status in ReservationStatus},
    "reference": equals("reference"),
    "before": lambda columns: columns.id < bindparam("before", type_=Text),
}
HOLD_CONDITIONS: Final[Conditions] = {
    "tenant_id": equals("tenant_id"),
    "before": lambda columns: columns.reservation_id < bindparam("before", type_=Text),
}
RESERVATION_COUNT_CONDITIONS: Final[Conditions] = {
    **{name: RESERVATION_CONDITIONS[name] for name in ("tenant_id", *ReservationStatus)},
    # None is empty: those of all are counted under that.
    "reference": lambda columns: equals("reference")(columns) & (columns.reference != EMPTY),
    "all": lambda columns: columns.reference == EMPTY,
}


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
    statement = _reservations_page(snapshot.dialect, parameter_names(parameters))
    rows = await snapshot.rows(statement, {**parameters, "limit": limit})
    return reservation_records(within_line_limit(rows))


async def count_reservations(snapshot: Snapshot, tenant: str, *, where: ReservationFilter) -> int:
    """Return how many reservations match, from counts that every write keeps."""
    parameters = _reservation_parameters(tenant, where, None)
    [row] = await snapshot.rows(
        _reservations_count(snapshot.dialect, parameter_names(parameters)), parameters
    )
    return int(row[0])


async def get_reservations(
    session: Session | Snapshot, tenant: str, *, ids: Sequence[str]
) -> dict[str, ReservationRecord]:
    """Return reservations with their lines, by id."""
    statement = reservations_by_id(session.dialect)
    rows = await session.rows(statement, {"tenant_id": tenant, "ids": ids})
    return {record.id: record for record in reservation_records(within_line_limit(rows))}


async def list_holds_of(
    snapshot: Snapshot,
    tenant: str,
    *,
    levels: Sequence[StockKey],
    after: str | None,
    limit: int,
) -> dict[StockKey, list[ReservationLineRecord]]:
    """Return for each level a page of what open reservations hold of it, newest first."""
    parameters: dict[str, object] = {"tenant_id": tenant, "before": after}
    statement = _holds_of(snapshot.dialect, parameter_names(parameters))
    parameters |= {"parents": parents_json(levels), "limit": limit}
    pages: dict[StockKey, list[ReservationLineRecord]] = {level: [] for level in levels}
    for row in await snapshot.rows(statement, parameters):
        pages[row.sku, row.warehouse_id].append(ReservationLineRecord(*tuple(row)))
    return pages


async def count_holds_of(
    snapshot: Snapshot, tenant: str, *, levels: Sequence[StockKey]
) -> dict[StockKey, int]:
    """Return for each level how many open reservations hold some of it."""
    parameters = {"tenant_id": tenant, "parents": parents_json(levels)}
    rows = await snapshot.rows(_holds_count_of(snapshot.dialect), parameters)
    return dict.fromkeys(levels, 0) | {(row.sku, row.warehouse_id): row.holds for row in rows}


async def list_due_reservations(
    session: Session | Snapshot, tenant: str, *, limit: int
) -> list[str]:
    """Return the ids of open reservations whose time is over, the longest first."""
    rows = await session.rows(_due(), {"tenant_id": tenant, "limit": limit})
    return [row.id for row in rows]


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


def within_line_limit(rows: Sequence[AnyRow]) -> Sequence[AnyRow]:
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


@shaped
def _reservations_page(_dialect: str, asked: frozenset[str]) -> Select[Any]:
    page = (
        select(reservation)
        .where(*conditions_of(RESERVATION_CONDITIONS, asked, reservation.c))
        .order_by(reservation.c.id.desc())
        .limit(LARGEST_PAGE)
        .subquery("longest")
    )
    page = select(page).order_by(page.c.id.desc()).limit(PAGE_LIMIT).subquery("page")
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
    conditions = conditions_of(RESERVATION_COUNT_CONDITIONS, of, reservation_count.c)
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
        .where(equals("tenant_id")(reservation.c), in_key_array(dialect, reservation.c.id, "ids"))
        .order_by(reservation.c.id, reservation_line.c.sku, reservation_line.c.warehouse_id)
        .limit(LINES)
    )


@shaped
def _holds_of(dialect: str, asked: frozenset[str]) -> Select[Any]:
    parents = rows_from(dialect, "parents", PARENTS)
    return pages_of_parents(
        dialect,
        parents,
        reservation_line,
        LINE_COLUMNS,
        where=lambda columns: [
            *conditions_of(HOLD_CONDITIONS, asked, columns),
            _is_held(columns),
            *parent_conditions(columns, parents, frozenset(PARENTS)),
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
    is_parent = parent_conditions(stock_level.c, parents, frozenset(PARENTS))
    levels = parents.join(stock_level, and_(*is_parent))
    mine = equals("tenant_id")(stock_level.c)
    return select(*parents.c, stock_level.c.holds).select_from(levels).where(mine)


@cache
def _due() -> Select[Any]:
    return (
        select(reservation.c.id)
        .where(
            equals("tenant_id")(reservation.c),
            _stands(ReservationStatus.OPEN)(reservation.c),
            reservation.c.expires_at <= Present(),
        )
        .order_by(reservation.c.expires_at)
        .limit(PAGE_LIMIT)
    )
