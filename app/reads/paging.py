"""Keyset pages, of one list or of many parents in one statement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Text,
    bindparam,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.types import TypeEngine

from app.database.columns import UtcDateTime
from app.domain.filters import Order
from app.ledger.totals import Columns

PAGE_LIMIT: Final = bindparam("limit", type_=BigInteger)

# PostgreSQL plans once for all values of a parameter and estimates an unknown limit at a tenth of
# the table. A constant limit keeps the estimate small.
LARGEST_PAGE: Final = literal_column("201", BigInteger)
# Counts of rows stop here. Counts that writes maintain have no limit.
MAX_COUNT: Final = 10_000
COUNT_LIMIT: Final = literal_column(str(MAX_COUNT), BigInteger)
# The default limit of the stock levels, or warehouses, that a statement reads.
MOST_LEVELS: Final = 1_000_000


# The columns of an order of SKUs; the code makes it total.
ORDER_COLUMNS: Final = {
    "code": ("sku",),
    "available": ("available", "sku"),
    "updated": ("updated_at", "sku"),
}
POSITION_TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    "sku": Text(),
    "available": BigInteger(),
    "updated_at": UtcDateTime(),
}


def in_sku_order(columns: Columns, order: Order) -> list[ColumnElement[Any]]:
    """Columns of an order of SKUs, for ORDER BY."""
    ordered = [columns[name] for name in ORDER_COLUMNS[order.subject]]
    return [column.desc() for column in ordered] if order.is_descending else ordered


def after_position(columns: Columns, order: Order) -> ColumnElement[bool]:
    """Condition that a row follows the position `after_<column>` of an order."""
    names = ORDER_COLUMNS[order.subject]
    row = tuple_(*(columns[name] for name in names))
    position = tuple_(*(bindparam(f"after_{name}", type_=POSITION_TYPES[name]) for name in names))
    return row < position if order.is_descending else row > position


def pages_of_parents(
    dialect: str,
    parents: FromClause,
    table: FromClause,
    columns: Sequence[ColumnElement[Any]],
    *,
    where: Callable[[Columns], list[ColumnElement[bool]]],
    order: Callable[[Columns], list[ColumnElement[Any]]],
) -> Select[Any]:
    """Select the first rows of a table for each parent, by one index seek per parent."""
    if dialect == "postgresql":
        page = (
            select(*columns)
            .where(*where(table.c))
            .order_by(*order(table.c))
            .limit(PAGE_LIMIT)
            .lateral()
        )
        return select(*page.c).select_from(parents.join(page, true())).order_by(*order(page.c))
    inner = table.alias("page")
    page_rows: Select[Any] = (
        select(literal_column("page.rowid"))
        .select_from(inner)
        .where(*where(inner.c))
        .order_by(*order(inner.c))
        .limit(PAGE_LIMIT)
        .correlate(parents)
    )
    in_page = literal_column(f"{table.description}.rowid").in_(page_rows)
    return select(*columns).select_from(parents.join(table, in_page)).order_by(*order(table.c))
