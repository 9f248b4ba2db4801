"""The ledger, summed up: what is kept of it, and how far that holds.

What the adjustments of a group come to is kept of some instants, by warehouse, reason, person and
sign; nothing that is older comes to it any more by itself (`app.commands.summing`), and no write of
stock takes part in that. What follows is read from the ledger, in the same statement. The tenant's
`summed_until` says how far sums hold: whatever inserts an adjustment into the past, the database
itself lowers it with that (`app.models`), and the ledger is summed up anew from there on.
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

# What is inserted later than LATE_AFTER has its day summed up anew. What is not has the rest of
# this to be committed.
CLOSED_AFTER: Final = 2 * LATE_AFTER
# Before and after everything.
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
END: Final = datetime.max.replace(tzinfo=UTC, microsecond=999_000)
# Sums are taken of halves of 32 bits, because that of whole numbers may take more than 64.
HALF: Final = 32
ZERO: Final[ColumnElement[int]] = literal_column("0", BigInteger)
EMPTY: Final[ColumnElement[str]] = literal_column("''", Text)
# What sums tell apart within a group.
COMBINATION: Final = ("warehouse_id", "reason", "created_by", "sign")
FIGURES: Final = ("entries", "delta_upper", "delta_lower")
Columns = ReadOnlyColumnCollection[str, Any]


class Group(StrEnum):
    """What adjustments are summed up together."""

    LEDGER = "ledger"
    SKU = "sku"
    REFERENCE = "reference"
    SKU_OF_REFERENCE = "SKU of reference"


# What adjustments of one group have in common.
IN_COMMON: Final[Mapping[Group, tuple[str, ...]]] = {
    Group.LEDGER: (),
    Group.SKU: ("sku",),
    Group.REFERENCE: ("reference",),
    Group.SKU_OF_REFERENCE: ("reference", "sku"),
}


def closed(now: datetime) -> datetime:
    """Return until when nothing comes to the ledger any more by itself."""
    return now - CLOSED_AFTER


def summed_until(dialect: str) -> ColumnElement[datetime]:
    """Return until when the ledger of a row of `tenant` is summed up."""
    until = func.coalesce(tenant.c.summed_until, beginning(), type_=UtcDateTime)
    if dialect == "sqlite":
        return until
    # A server whose clock was set back takes adjustments of a time that was over.
    span = literal_column(f"interval '{CLOSED_AFTER // timedelta(hours=1)} hours'", Interval)
    return earliest(dialect, until, func.now() - span)


def is_of_group(
    kind: Group, names: Mapping[str, ColumnElement[str]] | Columns
) -> list[ColumnElement[bool]]:
    """Return the conditions that a sum is one of a group."""
    said = {name: names[name] for name in IN_COMMON[kind]}
    return [
        ledger_sum.c.kind == literal_column(f"'{kind}'", Text),
        *(ledger_sum.c[name] == said.get(name, EMPTY) for name in ("reference", "sku")),
    ]


def earliest(dialect: str, *instants: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Return the first of some instants."""
    return (func.least if dialect == "postgresql" else func.min)(*instants, type_=UtcDateTime)


def beginning() -> ColumnElement[datetime]:
    """Return the instant before everything."""
    return bindparam("beginning", BEGINNING, UtcDateTime)


def halves_of(number: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Return the upper and the lower 32 bits of a number, both of which can be summed up."""
    return (
        number.op(">>")(literal_column(str(HALF))),
        number.op("&")(literal_column(str((1 << HALF) - 1))),
    )


def sign_of(number: ColumnElement[int]) -> ColumnElement[int]:
    """Return -1, 0 or 1."""
    one = literal_column("1", BigInteger)
    return case((number > ZERO, one), (number < ZERO, -one), else_=ZERO)


def entry() -> list[ColumnElement[Any]]:
    """Return an adjustment as a sum of one."""
    upper, lower = halves_of(adjustment.c.delta)
    return [
        *(adjustment.c[name] for name in COMBINATION[:3]),
        sign_of(adjustment.c.delta).label("sign"),
        literal_column("1", BigInteger).label("entries"),
        upper.label("delta_upper"),
        lower.label("delta_lower"),
    ]
