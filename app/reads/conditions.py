"""Conditions and keys that several reads share."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Text, bindparam
from sqlalchemy.types import TypeEngine

from app.database.compilation import StatementCache
from app.database.parameters import KeyValue, as_json
from app.ledger.totals import Columns

# One stock level as (SKU, warehouse id), or all levels of a SKU as (SKU, None).
StockKey = tuple[str, str | None]
# The ledger of a SKU as (SKU, None), of a stock level as (SKU, warehouse id), or of a warehouse as
# (None, warehouse id).
LedgerKey = tuple[str | None, str | None]
# The names of what a key of a ledger says.
Named = frozenset[str]

Conditions = Mapping[str, Callable[[Columns], ColumnElement[bool]]]

# Of each list, one statement for every set of filters.
shaped: Final = StatementCache()


def equals(name: str) -> Callable[[Columns], ColumnElement[bool]]:
    return lambda columns: columns[name] == bindparam(name, type_=KeyValue)


# What the key of a ledger may say.
PARENTS: Final[Mapping[str, TypeEngine[Any]]] = {"sku": Text(), "warehouse_id": Text()}


def named(key: LedgerKey) -> Named:
    """Return the names of what a key of a ledger says, which is what kind of a key it is."""
    return frozenset(name for name, said in zip(PARENTS, key, strict=True) if said is not None)


def parents_json(parents: Iterable[LedgerKey]) -> str:
    return as_json({"sku": code, "warehouse_id": id_} for code, id_ in parents)


def parameter_names(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the parameters that have a value: the shape of a statement."""
    return frozenset(name for name, value in parameters.items() if value is not None)


def conditions_of(
    conditions: Conditions, asked: frozenset[str], columns: Columns
) -> list[ColumnElement[bool]]:
    return [condition(columns) for name, condition in conditions.items() if name in asked]


def parent_conditions(
    columns: Columns, parents: FromClause, by: Named
) -> list[ColumnElement[bool]]:
    return [columns[name] == parents.c[name] for name in PARENTS if name in by]
