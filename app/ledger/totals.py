"""Rollups of the ledger: their groups, their columns and the instant until which they hold.

A rollup is the rows of `ledger_sum` with the same group and the same `until`: the sums of the
group's adjustments before that instant, by warehouse, reason, person and sign. Reads add the
entries after it in the same statement. A background job stores rollups (`app.ledger.rollup`);
writes of stock do not. Rollups hold up to the tenant's `summed_until`. A trigger lowers it when an
adjustment is inserted with an earlier instant, and the job then rolls up again from there.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Interval,
    Text,
    bindparam,
    case,
    func,
    literal_column,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.database.columns import UtcDateTime
from app.database.tables import adjustment, ledger_sum, tenant
from app.database.triggers import LATE_AFTER

# An insertion later than LATE_AFTER makes the trigger lower `summed_until`. An earlier one has the
# rest of this time to be committed.
CLOSED_AFTER: Final = 2 * LATE_AFTER
# Before and after all instants of the ledger.
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
END: Final = datetime.max.replace(tzinfo=UTC, microsecond=999_000)
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


def closed_until(now: datetime) -> datetime:
    """Instant before which no adjustment is inserted, except late ones."""
    return now - CLOSED_AFTER


def summed_until(dialect: str) -> ColumnElement[datetime]:
    """Instant until which the rollups of a row of `tenant` hold."""
    until = func.coalesce(tenant.c.summed_until, beginning_parameter(), type_=UtcDateTime)
    if dialect == "sqlite":
        return until
    # After its clock was set back, a server inserts adjustments before `summed_until`.
    span = literal_column(f"interval '{CLOSED_AFTER // timedelta(hours=1)} hours'", Interval)
    return earliest(dialect, until, func.now() - span)


def is_of_group(
    kind: Group, names: Mapping[str, ColumnElement[str]] | Columns
) -> list[ColumnElement[bool]]:
    """Conditions that a row of `ledger_sum` belongs to a group."""
    values = {name: names[name] for name in GROUP_COLUMNS[kind]}
    return [
        ledger_sum.c.kind == literal_column(f"'{kind}'", Text),
        *(ledger_sum.c[name] == values.get(name, EMPTY) for name in ("reference", "sku")),
    ]


def earliest(dialect: str, *instants: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """First of some instants."""
    return (func.least if dialect == "postgresql" else func.min)(*instants, type_=UtcDateTime)


def beginning_parameter() -> ColumnElement[datetime]:
    """Parameter with the value BEGINNING."""
    return bindparam("beginning", BEGINNING, UtcDateTime)


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
