"""Conditions of lists and keys of parents, as parts of statements."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Text, bindparam
from sqlalchemy.types import TypeEngine

from app.database.compilation import StatementCache
from app.database.parameters import TENANT, KeyValue, as_json
from app.ledger.totals import Columns

# One stock level as (SKU, warehouse id), or all levels of a SKU as (SKU, None).
StockKey = tuple[str, str | None]
# The ledger of a SKU as (SKU, None), of a stock level as (SKU, warehouse id), or of a warehouse as
# (None, warehouse id).
LedgerKey = tuple[str | None, str | None]
# The columns that a ledger key has a value for.
KeyColumns = frozenset[str]
# The parameters of a list that have a value; one statement is built for each set of them.
Filters = frozenset[str]

Conditions = Mapping[str, Callable[[Columns], ColumnElement[bool]]]

# The columns of a ledger key, in its order.
PARENTS: Final[Mapping[str, TypeEngine[Any]]] = {"sku": Text(), "warehouse_id": Text()}

# Builders of statements with filters share one cache.
shaped: Final = StatementCache()


def of_tenant(columns: Columns) -> ColumnElement[bool]:
    """Condition that a row belongs to the tenant of the parameters."""
    condition: ColumnElement[bool] = columns.tenant_id == TENANT
    return condition


def equals(name: str) -> Callable[[Columns], ColumnElement[bool]]:
    """Condition that a column equals the parameter of the same name."""
    return lambda columns: columns[name] == bindparam(name, type_=KeyValue)


def key_columns(key: LedgerKey) -> KeyColumns:
    """Columns that a ledger key has a value for; keys of one kind have the same."""
    return frozenset(name for name, value in zip(PARENTS, key, strict=True) if value is not None)


def parents_json(parents: Iterable[LedgerKey]) -> str:
    """JSON text of ledger keys, for `rows_from`."""
    return as_json({"sku": code, "warehouse_id": id_} for code, id_ in parents)


def filters_of(parameters: Mapping[str, object]) -> Filters:
    """Names of the parameters that have a value."""
    return frozenset(name for name, value in parameters.items() if value is not None)


def conditions_of(
    conditions: Conditions, filters: Filters, columns: Columns
) -> list[ColumnElement[bool]]:
    """Conditions of the filters, in the order of `conditions`."""
    return [condition(columns) for name, condition in conditions.items() if name in filters]


def parent_conditions(
    columns: Columns, parents: FromClause, key: KeyColumns
) -> list[ColumnElement[bool]]:
    """Conditions that a row belongs to a parent, by the columns of the parent's key."""
    return [columns[name] == parents.c[name] for name in PARENTS if name in key]
