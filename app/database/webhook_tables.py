"""Tables of webhooks and of their attempts."""

from datetime import datetime
from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlmodel import SQLModel

from app.database.columns import instant_column, integer_column, key_column, text_column
from app.database.tables import partial_index, tenant


class WebhookTable(SQLModel, table=True):
    """A webhook: a reader of the feed that sends changes to a URL."""

    __tablename__ = "webhook"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"]),
        CheckConstraint("status IN ('active', 'paused', 'disabled')", name="status"),
        CheckConstraint("signature IN ('hmac', 'ed25519')", name="signature"),
        CheckConstraint("(message_id IS NULL) = (message_to IS NULL)", name="message"),
        CheckConstraint("(lease_id IS NULL) = (lease_until IS NULL)", name="lease"),
        CheckConstraint("(failures = 0) = (failing_since IS NULL)", name="failures"),
        # For the search for tenants with due webhooks (`app.database.due_work`).
        Index(
            "webhook_by_next_attempt_index",
            *("next_attempt_at", "tenant_id"),
            **partial_index("status = 'active'"),
        ),
    )

    tenant_id: str = key_column(primary_key=True)
    id: str = key_column(primary_key=True)
    url: str = text_column()
    # Separated by spaces. Null: all types, all warehouses.
    types: str | None = text_column(nullable=True)
    warehouse_ids: str | None = text_column(nullable=True)
    status: str = key_column()
    disabling_reason: str | None = key_column(nullable=True)
    signature: str = key_column()
    # Readable, because the service signs with it.
    secret: str = text_column()
    public_key: str | None = text_column(nullable=True)
    # Signs beside the current one until its end.
    previous_secret: str | None = text_column(nullable=True)
    previous_secret_until: datetime | None = instant_column(nullable=True)
    created_at: datetime = instant_column()
    # The position of the feed up to which all changes are delivered.
    position: int = integer_column()
    # The message that is under way or failed: the changes up to a position. A retry has the same.
    message_id: str | None = key_column(nullable=True)
    message_to: int | None = integer_column(nullable=True)
    # The worker that sends the message now. After the end of its lease, any worker sends it again.
    lease_id: str | None = key_column(nullable=True)
    lease_until: datetime | None = instant_column(nullable=True)
    failures: int = integer_column()
    failing_since: datetime | None = instant_column(nullable=True)
    next_attempt_at: datetime = instant_column()
    last_attempt_at: datetime | None = instant_column(nullable=True)
    last_status: int | None = integer_column(nullable=True)
    last_error: str | None = text_column(nullable=True)


class WebhookAttemptTable(SQLModel, table=True):
    """An attempt to deliver a message of a webhook. Only the newest ones are kept."""

    __tablename__ = "webhook_attempt"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "webhook_id"], ["webhook.tenant_id", "webhook.id"]),
    )

    tenant_id: str = key_column(primary_key=True)
    webhook_id: str = key_column(primary_key=True)
    # Ids are in the order of the attempts.
    id: str = key_column(primary_key=True)
    message_id: str = key_column()
    started_at: datetime = instant_column()
    duration_ms: int = integer_column()
    # The message had the changes after the first position up to the second one.
    after_position: int = integer_column()
    read_to: int = integer_column()
    changes: int = integer_column()
    status: int | None = integer_column(nullable=True)
    error: str | None = text_column(nullable=True)
    answer: str | None = text_column(nullable=True)


_TABLES: Final = tenant.metadata.tables
webhook: Final = _TABLES["webhook"]
webhook_attempt: Final = _TABLES["webhook_attempt"]
