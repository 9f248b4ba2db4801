"""The tables and what the database itself enforces.

Every primary, unique and foreign key leads with the tenant, so that a sharded PostgreSQL can hold
a tenant as one unit. Text that is a key sorts by code point on both engines.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    TypeDecorator,
)
from sqlalchemy import text as sql_text
from sqlmodel import Field, SQLModel

from app.domain.instants import as_text
from app.domain.quantities import MAX_QUANTITY

SQLModel.metadata.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(referred_table_name)s_fkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "ix": "%(table_name)s_%(column_0_N_name)s_index",
}
# The key of a stock level.
LEVEL_KEY: Final = ("tenant_id", "sku", "warehouse_id")
# What an adjustment may be a part of.
LINKS: Final = ("bulk_id", "transfer_id", "reservation_id", "reference")

# Reservations are counted in so many parts, lest everybody who writes them waits for all others.
PARTS: Final = 16
# Sorted by code point: SQLite's default, PostgreSQL's collation "C".
KeyText: Final = Text().with_variant(Text(collation="C"), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An instant in UTC, to the millisecond: timestamptz, or text that sorts in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # noqa: ANN401 - as its base says
        """Return the engine's own type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Give the engine what it stores."""
        if value is None or dialect.name == "postgresql":
            return value
        return as_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401
        """Give Python an aware datetime."""
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return]
        return datetime.fromisoformat(value)


def key(**options: Any) -> Any:  # noqa: ANN401 - what Field takes and gives
    """Return a column of key text."""
    return Field(sa_type=KeyText, **options)


def text(**options: Any) -> Any:  # noqa: ANN401
    """Return a column of text that nothing is looked up by."""
    return Field(sa_type=Text, **options)


def count(**options: Any) -> Any:  # noqa: ANN401
    """Return a column of a whole number."""
    return Field(sa_type=BigInteger, **options)


def instant(**options: Any) -> Any:  # noqa: ANN401
    """Return a column of an instant."""
    return Field(sa_type=UtcDateTime, **options)


def _where(condition: str) -> dict[str, Any]:
    """Return the options of an index of some rows only."""
    return {"postgresql_where": sql_text(condition), "sqlite_where": sql_text(condition)}


def _where_it_is_set(table: str, name: str) -> Index:
    columns = ("tenant_id", name, "created_at", "sequence", "id")
    short = name.removesuffix("_id")
    return Index(f"{table}_by_{short}_index", *columns, **_where(f"{name} IS NOT NULL"))


class Tenant(SQLModel, table=True):
    """One customer of the service."""

    __tablename__ = "tenant"

    tenant_id: str = key(primary_key=True)
    name: str = text()
    cursor_key: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = instant()
    # Since when a reservation may ask for more than is available, if it may.
    permits_oversell_since: datetime | None = instant(nullable=True)
    # Until when its ledger is summed up (`app.sums`), if it is.
    summed_until: datetime | None = instant(nullable=True)


class ApiToken(SQLModel, table=True):
    """A credential; only the SHA-256 of its text is kept."""

    __tablename__ = "api_token"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        Index("api_token_hash_key", "tenant_id", "token_hash", unique=True),
    )

    tenant_id: str = key(primary_key=True)
    id: str = key(primary_key=True)
    name: str = text()
    email: str = text()
    scopes: str = text()
    token_hash: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = instant()
    expires_at: datetime | None = instant(nullable=True)
    revoked_at: datetime | None = instant(nullable=True)
    last_used_at: datetime | None = instant(nullable=True)


class SkuTable(SQLModel, table=True):
    """A stock-keeping unit; its row is the lock of all its stock levels."""

    __tablename__ = "sku"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("status IN ('normal', 'low', 'critical', 'out_of_stock')", name="status"),
        CheckConstraint("version >= 1", name="version"),
        Index(None, "tenant_id", "status", "sku"),
    )

    tenant_id: str = key(primary_key=True)
    sku: str = key(primary_key=True)
    title: str = text()
    status: str = key()
    version: int = count()
    created_at: datetime = instant()
    updated_at: datetime = instant()
    # Since when it is left out of lists, if it is.
    archived_at: datetime | None = instant(nullable=True)


class WarehouseTable(SQLModel, table=True):
    """A place that holds stock."""

    __tablename__ = "warehouse"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("type IN ('own', 'FBA', 'FBS', '3PL')", name="type"),
    )

    tenant_id: str = key(primary_key=True)
    id: str = key(primary_key=True)
    name: str = text()
    type: str = text()
    address: str | None = text(nullable=True)
    marketplace: str | None = text(nullable=True)
    is_active: bool
    created_at: datetime = instant()


class StockLevelTable(SQLModel, table=True):
    """What one warehouse holds of one SKU; `version` counts its adjustments."""

    __tablename__ = "stock_level"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"]),
        ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"], ["warehouse.tenant_id", "warehouse.id"]
        ),
        CheckConstraint(f"on_hand BETWEEN 0 AND {MAX_QUANTITY}", name="on_hand"),
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("safety_stock >= 0", name="safety_stock"),
        CheckConstraint("version >= 0", name="version"),
        CheckConstraint("status IN ('normal', 'low', 'critical', 'out_of_stock')", name="status"),
        Index(None, "tenant_id", "warehouse_id", "sku"),
        Index(None, "tenant_id", "warehouse_id", "status", "sku"),
    )

    tenant_id: str = key(primary_key=True)
    sku: str = key(primary_key=True)
    warehouse_id: str = key(primary_key=True)
    on_hand: int = count()
    reserved: int = count()
    safety_stock: int = count()
    status: str = key()
    version: int = count()
    adjusted_at: datetime | None = instant(nullable=True)
    # When the marketplace saw what it reported last, and its SKU's own: lists are filtered by it.
    synced_at: datetime | None = instant(nullable=True)
    archived_at: datetime | None = instant(nullable=True)
    # That of its last adjustment, if it has had any.
    last_hash: str | None = text(nullable=True)
    # How many open reservations hold some of it.
    holds: int = count(default=0, sa_column_kwargs={"server_default": "0"})


class AdjustmentTable(SQLModel, table=True):
    """One change of `on_hand` at one stock level: an append-only ledger entry.

    Per level, `sequence` is dense from 1, `created_at` never runs backwards, and each `hash` is
    over the one before it and all the columns (`app.chain`).
    """

    __tablename__ = "adjustment"
    __table_args__ = (
        ForeignKeyConstraint(
            LEVEL_KEY,
            ["stock_level.tenant_id", "stock_level.sku", "stock_level.warehouse_id"],
        ),
        CheckConstraint("after_quantity = before_quantity + delta", name="delta"),
        CheckConstraint(f"before_quantity BETWEEN 0 AND {MAX_QUANTITY}", name="before"),
        CheckConstraint(f"after_quantity BETWEEN 0 AND {MAX_QUANTITY}", name="after"),
        CheckConstraint("sequence >= 1", name="sequence"),
        Index("adjustment_sequence_key", *LEVEL_KEY, "sequence", unique=True),
        Index("adjustment_by_sku_index", "tenant_id", "sku", "created_at", "sequence", "id"),
        Index(
            "adjustment_by_level_index",
            *(*LEVEL_KEY, "created_at", "sequence"),
        ),
        Index("adjustment_by_time_index", "tenant_id", "created_at", "sequence", "id"),
        Index(
            "adjustment_by_warehouse_index",
            *("tenant_id", "warehouse_id", "created_at", "sequence", "id"),
        ),
        Index(
            "adjustment_by_reason_index",
            *("tenant_id", "warehouse_id", "reason", "created_at", "sequence", "id"),
        ),
        Index(
            "adjustment_by_actor_index",
            *("tenant_id", "created_by", "created_at", "sequence", "id"),
        ),
        *(_where_it_is_set("adjustment", name) for name in LINKS),
        Index(
            "adjustment_by_reference_and_sku_index",
            *("tenant_id", "reference", "sku", "created_at", "sequence", "id"),
            **_where("reference IS NOT NULL"),
        ),
        Index(
            "adjustment_reversal_key",
            *("tenant_id", "reversal_of"),
            unique=True,
            **_where("reversal_of IS NOT NULL"),
        ),
    )

    tenant_id: str = key(primary_key=True)
    id: str = key(primary_key=True)
    sku: str = key()
    warehouse_id: str = key()
    sequence: int = count()
    before_quantity: int = count()
    after_quantity: int = count()
    delta: int = count()
    reason: str = key()
    note: str | None = text(nullable=True)
    created_by: str = text()
    created_at: datetime = instant()
    # What it is a part of: a bulk, a transfer (as one half of it), the commit of a reservation.
    bulk_id: str | None = key(nullable=True)
    transfer_id: str | None = key(nullable=True)
    reservation_id: str | None = key(nullable=True)
    # The adjustment that it undoes.
    reversal_of: str | None = key(nullable=True)
    # What the caller calls the order, delivery or count that it belongs to.
    reference: str | None = key(nullable=True)
    hash: str = text()


class LedgerSum(SQLModel, table=True):
    """What the first adjustments of a group come to: by warehouse, reason, person and sign.

    Those are the ones before `until`, of which all rows of the group together tell. The groups are
    the whole ledger, what is of one SKU, what has one reference, and what is both (`app.sums`);
    what does not name a group is empty. It holds up to the tenant's `summed_until`. The sums are
    those of the upper and of the lower 32 bits of each delta.
    """

    __tablename__ = "ledger_sum"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("sign IN (-1, 0, 1)", name="sign"),
        CheckConstraint("entries >= 1", name="entries"),
    )

    tenant_id: str = key(primary_key=True)
    kind: str = key(primary_key=True)
    reference: str = key(primary_key=True)
    sku: str = key(primary_key=True)
    until: datetime = instant(primary_key=True)
    warehouse_id: str = key(primary_key=True)
    reason: str = key(primary_key=True)
    created_by: str = text(primary_key=True)
    sign: int = count(primary_key=True)
    entries: int = count()
    delta_upper: int = count()
    delta_lower: int = count()


class ReservationTable(SQLModel, table=True):
    """Stock that is held for somebody, until it is committed, released or expires."""

    __tablename__ = "reservation"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("status IN ('open', 'committed', 'released', 'expired')", name="status"),
        CheckConstraint("(status = 'open') = (ended_at IS NULL)", name="ended"),
        CheckConstraint("version >= 1", name="version"),
        Index(None, "tenant_id", "status", "id"),
        Index(
            "reservation_by_reference_index",
            *("tenant_id", "reference", "id"),
            **_where("reference IS NOT NULL"),
        ),
        Index("reservation_due_index", "tenant_id", "expires_at", **_where("status = 'open'")),
    )

    tenant_id: str = key(primary_key=True)
    id: str = key(primary_key=True)
    status: str = key()
    reference: str | None = key(nullable=True)
    note: str | None = text(nullable=True)
    created_by: str = text()
    created_at: datetime = instant()
    # None: it is held until it is committed or released.
    expires_at: datetime | None = instant(nullable=True)
    ended_at: datetime | None = instant(nullable=True)
    version: int = count()


class ReservationLineTable(SQLModel, table=True):
    """What a reservation asked for at one stock level, holds now, and took in the end."""

    __tablename__ = "reservation_line"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "reservation_id"], ["reservation.tenant_id", "reservation.id"]
        ),
        ForeignKeyConstraint(
            LEVEL_KEY,
            ["stock_level.tenant_id", "stock_level.sku", "stock_level.warehouse_id"],
        ),
        CheckConstraint(f"quantity BETWEEN 1 AND {MAX_QUANTITY}", name="quantity"),
        CheckConstraint("held IN (0, quantity)", name="held"),
        CheckConstraint("committed BETWEEN 0 AND quantity", name="committed"),
        Index(
            "reservation_line_by_level_index",
            *(*LEVEL_KEY, "reservation_id"),
        ),
        Index(
            "reservation_line_held_index",
            *(*LEVEL_KEY, "reservation_id"),
            **_where("held > 0"),
        ),
    )

    tenant_id: str = key(primary_key=True)
    reservation_id: str = key(primary_key=True)
    sku: str = key(primary_key=True)
    warehouse_id: str = key(primary_key=True)
    quantity: int = count()
    held: int = count()
    committed: int = count()


class ReservationCount(SQLModel, table=True):
    """How many reservations have a status: the sum of its parts, each of which may be negative.

    That is of all (`reference` empty), and of those that have one reference.
    """

    __tablename__ = "reservation_count"
    __table_args__ = (ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),)

    tenant_id: str = key(primary_key=True)
    reference: str = key(primary_key=True)
    status: str = key(primary_key=True)
    part: int = count(primary_key=True)
    reservations: int = count()


class SkuCount(SQLModel, table=True):
    """How many SKUs have a status: in one warehouse, or over all (`warehouse_id` empty).

    Archived ones are counted apart: their status is prefixed.
    """

    __tablename__ = "sku_count"
    __table_args__ = (ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),)

    tenant_id: str = key(primary_key=True)
    warehouse_id: str = key(primary_key=True)
    status: str = key(primary_key=True)
    skus: int = count()


class IdempotencyKey(SQLModel, table=True):
    """The outcome of a write, kept so that a repetition gets it again and has no effect."""

    __tablename__ = "idempotency_key"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        Index(None, "tenant_id", "created_at"),
    )

    tenant_id: str = key(primary_key=True)
    subject: str = key(primary_key=True)
    key: str = key(primary_key=True)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    outcome: str = text()
    created_at: datetime = instant()


METADATA: Final = SQLModel.metadata
tenant: Final = METADATA.tables["tenant"]
api_token: Final = METADATA.tables["api_token"]
sku: Final = METADATA.tables["sku"]
warehouse: Final = METADATA.tables["warehouse"]
stock_level: Final = METADATA.tables["stock_level"]
adjustment: Final = METADATA.tables["adjustment"]
ledger_sum: Final = METADATA.tables["ledger_sum"]
reservation: Final = METADATA.tables["reservation"]
reservation_line: Final = METADATA.tables["reservation_line"]
reservation_count: Final = METADATA.tables["reservation_count"]
sku_count: Final = METADATA.tables["sku_count"]
idempotency_key: Final = METADATA.tables["idempotency_key"]
