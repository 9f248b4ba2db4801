"""Tables with their constraints and indexes.

Every primary, unique and foreign key starts with the tenant id, so a sharded PostgreSQL can keep a
tenant on one shard. Key text sorts by code point on both engines.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    text,
)
from sqlmodel import Field, SQLModel

from app.database.columns import instant_column, integer_column, key_column, text_column
from app.domain.availability import DEFAULT_AVAILABILITY_LIMIT
from app.domain.changes import MAX_POSITION
from app.domain.quantities import MAX_QUANTITY

SQLModel.metadata.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(referred_table_name)s_fkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "ix": "%(table_name)s_%(column_0_N_name)s_index",
}
# The primary key of a stock level.
LEVEL_KEY: Final = ("tenant_id", "sku", "warehouse_id")
# The columns that link an adjustment to a bulk, a transfer, a reservation or a reference.
LINK_COLUMNS: Final = ("bulk_id", "transfer_id", "reservation_id", "reference")
# The time at which an adjustment counts as occurred.
OCCURRENCE: Final = "coalesce(occurred_at, created_at)"


def partial_index(condition: str) -> dict[str, Any]:
    """Options of a partial index."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


def _where_it_is_set(table: str, name: str) -> Index:
    columns = ("tenant_id", name, "position")
    short = name.removesuffix("_id")
    return Index(f"{table}_by_{short}_index", *columns, **partial_index(f"{name} IS NOT NULL"))


class TenantTable(SQLModel, table=True):
    """A customer of the service."""

    __tablename__ = "tenant"
    __table_args__ = (
        CheckConstraint(
            f"changes_deleted_until BETWEEN 0 AND {MAX_POSITION}", name="changes_deleted_until"
        ),
        CheckConstraint(
            f"availability_limit BETWEEN 0 AND {MAX_QUANTITY}", name="availability_limit"
        ),
    )

    tenant_id: str = key_column(primary_key=True)
    name: str = text_column()
    cursor_key: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = instant_column()
    # Since then reservations may exceed the available stock. None: they may not.
    permits_oversell_since: datetime | None = instant_column(nullable=True)
    # Since then reservations may have no expiry. None: they may not.
    permits_no_expiry_since: datetime | None = instant_column(nullable=True)
    # Set while the rows of the tenant are deleted. The tenant is served no longer.
    deleted_since: datetime | None = instant_column(nullable=True)
    # The last position of the feed whose changes are deleted.
    changes_deleted_until: int = integer_column(sa_column_kwargs={"server_default": "0"})
    # The largest quantity that the scope `inventory:availability` shows.
    availability_limit: int = integer_column(
        sa_column_kwargs={"server_default": str(DEFAULT_AVAILABILITY_LIMIT)}
    )


class ApiTokenTable(SQLModel, table=True):
    """An API token; only the SHA-256 of its text is stored."""

    __tablename__ = "api_token"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint(
            "warehouse_ids IS NULL OR scopes NOT LIKE '%inventory:admin%'", name="bound_scopes"
        ),
        Index("api_token_hash_key", "tenant_id", "token_hash", unique=True),
    )

    tenant_id: str = key_column(primary_key=True)
    id: str = key_column(primary_key=True)
    name: str = text_column()
    email: str = text_column()
    scopes: str = text_column()
    # The warehouses that the token is bound to, separated by spaces; None: all.
    warehouse_ids: str | None = text_column(nullable=True)
    token_hash: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = instant_column()
    expires_at: datetime | None = instant_column(nullable=True)
    revoked_at: datetime | None = instant_column(nullable=True)
    last_used_at: datetime | None = instant_column(nullable=True)


class PersonTable(SQLModel, table=True):
    """An author of adjustments and reservations. Without an e-mail address it was erased."""

    __tablename__ = "person"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        Index("person_email_key", "tenant_id", "email", unique=True),
    )

    tenant_id: str = key_column(primary_key=True)
    id: str = key_column(primary_key=True)
    # Both are null for an erased person.
    email: str | None = key_column(nullable=True)
    salt: str | None = key_column(nullable=True)


class SkuTable(SQLModel, table=True):
    """A stock-keeping unit."""

    __tablename__ = "sku"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("status IN ('normal', 'low', 'critical', 'out_of_stock')", name="status"),
        CheckConstraint("version >= 1", name="version"),
        Index(None, "tenant_id", "status", "sku"),
        # Codes that differ in case or leading zeros. SQLite uses it only if it covers the code.
        Index("sku_by_folded_code_index", "tenant_id", text("ltrim(lower(sku), '0')"), "sku"),
        Index(None, "tenant_id", "available", "sku"),
        Index(None, "tenant_id", "updated_at", "sku"),
    )

    tenant_id: str = key_column(primary_key=True)
    sku: str = key_column(primary_key=True)
    title: str = text_column()
    status: str = key_column()
    # The sum over the levels, for the order of lists.
    available: int = integer_column()
    version: int = integer_column()
    created_at: datetime = instant_column()
    updated_at: datetime = instant_column()
    # Lists omit archived SKUs by default.
    archived_at: datetime | None = instant_column(nullable=True)
    # The JSON of the metadata; null without any.
    metadata_entries: str | None = text_column(nullable=True)


class SkuWordTable(SQLModel, table=True):
    """A word of the code or the title of a SKU, for the search by text."""

    __tablename__ = "sku_word"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"]),)

    tenant_id: str = key_column(primary_key=True)
    word: str = key_column(primary_key=True)
    sku: str = key_column(primary_key=True)


class WarehouseTable(SQLModel, table=True):
    """A location of stock."""

    __tablename__ = "warehouse"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("type IN ('own', 'FBA', 'FBS', '3PL')", name="type"),
    )

    tenant_id: str = key_column(primary_key=True)
    id: str = key_column(primary_key=True)
    name: str = text_column()
    type: str = text_column()
    address: str | None = text_column(nullable=True)
    marketplace: str | None = text_column(nullable=True)
    is_active: bool
    # The stock of a warehouse that is inactive or not sellable is not for sale.
    is_sellable: bool
    created_at: datetime = instant_column()
    # The JSON of the metadata; null without any.
    metadata_entries: str | None = text_column(nullable=True)
    # The sum over the levels.
    reserved: int = integer_column(sa_column_kwargs={"server_default": "0"})


class StockLevelTable(SQLModel, table=True):
    """The stock of one SKU in one warehouse; `version` counts its adjustments."""

    __tablename__ = "stock_level"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"]),
        ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"], ["warehouse.tenant_id", "warehouse.id"]
        ),
        CheckConstraint(f"on_hand BETWEEN 0 AND {MAX_QUANTITY}", name="on_hand"),
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("safety_stock >= 0", name="safety_stock"),
        CheckConstraint("reorder_point >= 0", name="reorder_point"),
        CheckConstraint("version >= 0", name="version"),
        CheckConstraint("status IN ('normal', 'low', 'critical', 'out_of_stock')", name="status"),
        Index(None, "tenant_id", "warehouse_id", "sku"),
        Index(None, "tenant_id", "warehouse_id", "status", "sku"),
    )

    tenant_id: str = key_column(primary_key=True)
    sku: str = key_column(primary_key=True)
    warehouse_id: str = key_column(primary_key=True)
    on_hand: int = integer_column()
    reserved: int = integer_column()
    safety_stock: int = integer_column()
    # None: the status is low by the safety stock.
    reorder_point: int | None = integer_column(nullable=True)
    status: str = key_column()
    version: int = integer_column()
    adjusted_at: datetime | None = instant_column(nullable=True)
    # The latest time at which one of its adjustments occurred.
    occurred_until: datetime | None = instant_column(nullable=True)
    # The time of the last report.
    synced_at: datetime | None = instant_column(nullable=True)
    # The `archived_at` of the SKU, copied because lists filter by it.
    archived_at: datetime | None = instant_column(nullable=True)
    # The number of open reservations with stock of this level.
    holds: int = integer_column(default=0, sa_column_kwargs={"server_default": "0"})


class AdjustmentTable(SQLModel, table=True):
    """A change of `on_hand` at a stock level: an append-only ledger entry.

    `position` counts the entries of a tenant from 1 without gaps, in the order of commit, and
    `sequence` those of a level. Along the positions `created_at` never decreases, and `hash` covers
    the previous hash and the columns (`app.domain.hash_chain`).
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
        CheckConstraint("position >= 1", name="position"),
        CheckConstraint("sequence >= 1", name="sequence"),
        Index("adjustment_id_key", "tenant_id", "id", unique=True),
        Index("adjustment_sequence_key", *LEVEL_KEY, "sequence", unique=True),
        Index("adjustment_by_sku_index", "tenant_id", "sku", "position"),
        Index("adjustment_by_level_index", *LEVEL_KEY, "position"),
        Index("adjustment_by_time_index", "tenant_id", "created_at", "position"),
        Index("adjustment_by_occurrence_index", "tenant_id", text(OCCURRENCE), "position"),
        Index("adjustment_by_warehouse_index", "tenant_id", "warehouse_id", "position"),
        Index("adjustment_by_reason_index", "tenant_id", "warehouse_id", "reason", "position"),
        Index("adjustment_by_actor_index", "tenant_id", "created_by", "position"),
        *(_where_it_is_set("adjustment", name) for name in LINK_COLUMNS),
        Index(
            "adjustment_by_reference_and_sku_index",
            *("tenant_id", "reference", "sku", "position"),
            **partial_index("reference IS NOT NULL"),
        ),
        Index(
            "adjustment_reversal_key",
            *("tenant_id", "reversal_of"),
            unique=True,
            **partial_index("reversal_of IS NOT NULL"),
        ),
    )

    tenant_id: str = key_column(primary_key=True)
    position: int = integer_column(primary_key=True)
    id: str = key_column()
    sku: str = key_column()
    warehouse_id: str = key_column()
    sequence: int = integer_column()
    before_quantity: int = integer_column()
    after_quantity: int = integer_column()
    delta: int = integer_column()
    reason: str = key_column()
    note: str | None = text_column(nullable=True)
    # The id of a person.
    created_by: str = key_column()
    created_at: datetime = instant_column()
    # The write that created the adjustment, if it was a bulk, a transfer or a commit.
    bulk_id: str | None = key_column(nullable=True)
    transfer_id: str | None = key_column(nullable=True)
    reservation_id: str | None = key_column(nullable=True)
    # The id of the reversed adjustment.
    reversal_of: str | None = key_column(nullable=True)
    # The caller's name of an order, a delivery or a count.
    reference: str | None = key_column(nullable=True)
    # When the change occurred, if the caller said so.
    occurred_at: datetime | None = instant_column(nullable=True)
    hash: str = text_column()


class LedgerSumTable(SQLModel, table=True):
    """A rollup of the adjustments of a group, by warehouse, reason, actor and sign.

    The rows of a group with one `until` cover all its adjustments up to that position. A group is
    the whole ledger, a SKU, a reference, or a SKU with a reference (`app.ledger.rollup`); unused
    keys are empty. The upper and the lower 32 bits of each delta are summed separately.
    """

    __tablename__ = "ledger_sum"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("sign IN (-1, 0, 1)", name="sign"),
        CheckConstraint("entries >= 1", name="entries"),
    )

    tenant_id: str = key_column(primary_key=True)
    kind: str = key_column(primary_key=True)
    reference: str = key_column(primary_key=True)
    sku: str = key_column(primary_key=True)
    until: int = integer_column(primary_key=True)
    warehouse_id: str = key_column(primary_key=True)
    reason: str = key_column(primary_key=True)
    created_by: str = key_column(primary_key=True)
    sign: int = integer_column(primary_key=True)
    entries: int = integer_column()
    delta_upper: int = integer_column()
    delta_lower: int = integer_column()


class ReservationTable(SQLModel, table=True):
    """A reservation of stock until it is committed, released or expired."""

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
            **partial_index("reference IS NOT NULL"),
        ),
        Index(
            "reservation_due_index", "tenant_id", "expires_at", **partial_index("status = 'open'")
        ),
        # For the search for tenants with due reservations (`app.database.due_work`).
        Index(
            "reservation_by_expiry_index",
            "expires_at",
            "tenant_id",
            **partial_index("status = 'open'"),
        ),
    )

    tenant_id: str = key_column(primary_key=True)
    id: str = key_column(primary_key=True)
    status: str = key_column()
    reference: str | None = key_column(nullable=True)
    note: str | None = text_column(nullable=True)
    # The id of a person.
    created_by: str = key_column()
    created_at: datetime = instant_column()
    # None: the reservation does not expire.
    expires_at: datetime | None = instant_column(nullable=True)
    ended_at: datetime | None = instant_column(nullable=True)
    version: int = integer_column()


class ReservationLineTable(SQLModel, table=True):
    """The quantities of a reservation at one stock level: requested, held and committed."""

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
        Index("reservation_line_by_sku_index", "tenant_id", "sku", "reservation_id"),
        Index("reservation_line_by_warehouse_index", "tenant_id", "warehouse_id", "reservation_id"),
        Index(
            "reservation_line_held_index",
            *(*LEVEL_KEY, "reservation_id"),
            **partial_index("held > 0"),
        ),
        Index(
            "reservation_line_held_by_sku_index",
            *("tenant_id", "sku", "reservation_id"),
            **partial_index("held > 0"),
        ),
        Index(
            "reservation_line_held_by_warehouse_index",
            *("tenant_id", "warehouse_id", "reservation_id"),
            **partial_index("held > 0"),
        ),
    )

    tenant_id: str = key_column(primary_key=True)
    reservation_id: str = key_column(primary_key=True)
    sku: str = key_column(primary_key=True)
    warehouse_id: str = key_column(primary_key=True)
    quantity: int = integer_column()
    held: int = integer_column()
    committed: int = integer_column()


class ReservationCountTable(SQLModel, table=True):
    """The number of reservations with a status and a reference, or of all (empty `reference`)."""

    __tablename__ = "reservation_count"
    __table_args__ = (ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),)

    tenant_id: str = key_column(primary_key=True)
    reference: str = key_column(primary_key=True)
    status: str = key_column(primary_key=True)
    reservations: int = integer_column()


class SkuCountTable(SQLModel, table=True):
    """The number of SKUs with a status in a warehouse, or in all (empty `warehouse_id`).

    The status of archived SKUs has a prefix.
    """

    __tablename__ = "sku_count"
    __table_args__ = (ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),)

    tenant_id: str = key_column(primary_key=True)
    warehouse_id: str = key_column(primary_key=True)
    status: str = key_column(primary_key=True)
    skus: int = integer_column()


class IdempotencyKeyTable(SQLModel, table=True):
    """The outcome of a write, for replays of the same request."""

    __tablename__ = "idempotency_key"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        Index(None, "tenant_id", "created_at"),
    )

    tenant_id: str = key_column(primary_key=True)
    subject: str = key_column(primary_key=True)
    key: str = key_column(primary_key=True)
    # SHA-256 of the request, in hex.
    fingerprint: str = text_column()
    outcome: str = text_column()
    created_at: datetime = instant_column()


class ChangeTable(SQLModel, table=True):
    """A change of the feed of a tenant; `position` counts from 1 in the order of commit.

    It has no foreign key: PostgreSQL would look the locked tenant up again for each row, which
    takes a third of the time of the INSERT.
    """

    __tablename__ = "change"

    tenant_id: str = key_column(primary_key=True)
    position: int = integer_column(primary_key=True)
    type: str = key_column()
    # Null for the change of a whole warehouse or reservation.
    sku: str | None = key_column(nullable=True)
    # Null for the change of a whole SKU or reservation.
    warehouse_id: str | None = key_column(nullable=True)
    # The JSON of a `ChangeBody`.
    body: str = text_column()
    created_at: datetime = instant_column()


_TABLES: Final = SQLModel.metadata.tables
tenant: Final = _TABLES["tenant"]
api_token: Final = _TABLES["api_token"]
person: Final = _TABLES["person"]
sku: Final = _TABLES["sku"]
sku_word: Final = _TABLES["sku_word"]
warehouse: Final = _TABLES["warehouse"]
stock_level: Final = _TABLES["stock_level"]
adjustment: Final = _TABLES["adjustment"]
ledger_sum: Final = _TABLES["ledger_sum"]
reservation: Final = _TABLES["reservation"]
reservation_line: Final = _TABLES["reservation_line"]
reservation_count: Final = _TABLES["reservation_count"]
sku_count: Final = _TABLES["sku_count"]
idempotency_key: Final = _TABLES["idempotency_key"]
change: Final = _TABLES["change"]
