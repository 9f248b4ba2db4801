"""Rollups of the ledger: their groups and their columns.

A rollup is the rows of `ledger_sum` with the same group and the same `until`: the sums of the
group's adjustments up to that position, by warehouse, reason, actor and sign. It is exact for good,
because new adjustments have later positions. Reads add the entries after it in the same statement.
A background job stores rollups (`app.ledger.rollup`); writes of stock do not.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Text, case, literal_column
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.database.tables import adjustment, ledger_sum

# Deltas are summed in halves of 32 bits, because a sum of whole ones may exceed 64 bits.
HALF_BITS: Final = 32
ZERO: Final[ColumnElement[int]] = literal_column("0", BigInteger)
EMPTY: Final[ColumnElement[str]] = literal_column("''", Text)
# The columns that distinguish the rows of a rollup, and the columns that are summed.
SUM_KEY: Final = ("warehouse_id", "reason", "created_by", "sign")
SUM_FIGURES: Final = ("entries", "delta_upper", "delta_lower")
Columns = ReadOnlyColumnCollection[str, Any]


class Group(StrEnum):
    """The kinds of groups of adjustments that have rollups."""

    LEDGER = "ledger"
    SKU = "sku"
    REFERENCE = "reference"
    SKU_OF_REFERENCE = "SKU of reference"


# The columns whose values name a group of a kind.
GROUP_COLUMNS: Final[Mapping[Group, tuple[str, ...]]] = {
    Group.LEDGER: (),
    Group.SKU: ("sku",),
    Group.REFERENCE: ("reference",),
    Group.SKU_OF_REFERENCE: ("reference", "sku"),
}


def is_of_group(
    kind: Group, names: Mapping[str, ColumnElement[str]] | Columns, sums: Columns = ledger_sum.c
) -> list[ColumnElement[bool]]:
    """Conditions that a row of `ledger_sum`, or of an alias of it, belongs to a group."""
    values = {name: names[name] for name in GROUP_COLUMNS[kind]}
    return [
        sums.kind == literal_column(f"'{kind}'", Text),
        *(sums[name] == values.get(name, EMPTY) for name in ("reference", "sku")),
    ]


def halves_of(number: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Upper and lower 32 bits of a number."""
    return (
        number.op(">>")(literal_column(str(HALF_BITS))),
        number.op("&")(literal_column(str((1 << HALF_BITS) - 1))),
    )


def entry_columns() -> list[ColumnElement[Any]]:
    """Columns SUM_KEY and SUM_FIGURES of a single adjustment."""
    upper, lower = halves_of(adjustment.c.delta)
    return [
        *(adjustment.c[name] for name in SUM_KEY[:3]),
        _sign_of(adjustment.c.delta).label("sign"),
        literal_column("1", BigInteger).label("entries"),
        upper.label("delta_upper"),
        lower.label("delta_lower"),
    ]


def _sign_of(number: ColumnElement[int]) -> ColumnElement[int]:
    """-1, 0 or 1."""
    one = literal_column("1", BigInteger)
    return case((number > ZERO, one), (number < ZERO, -one), else_=ZERO)
