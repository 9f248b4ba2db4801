"""The types and queries of webhooks, made from records."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import Private

from app.domain.webhooks import AttemptRecord, WebhookRecord
from app.graphql.schema.budget import PARENT_COST, ROW_COST, STATEMENT_COST
from app.graphql.schema.context import Context, Info
from app.graphql.schema.enums import (
    ChangeType,
    DisablingReason,
    SignatureKind,
    WebhookStatus,
)
from app.graphql.schema.fields import quantity_from, read_from
from app.graphql.schema.relay import (
    DEFAULT_PAGE,
    ID_DESCRIPTION,
    After,
    Connection,
    First,
    Node,
    connection_of,
    page_size,
)
from app.reads.webhooks import count_attempts, count_webhooks, list_attempts, list_webhooks
from app.writes.webhooks import webhook_not_found

WebhookId = Annotated[strawberry.ID, strawberry.argument(description="Webhook id, whk_...")]


@strawberry.type(
    description="A webhook: changes of the feed are sent to its URL, in order and at least once."
)
class Webhook(Node):
    """A webhook."""

    record: Private[WebhookRecord]
    id: strawberry.ID = read_from("record.id", ID_DESCRIPTION)
    url: str = read_from("record.url", "URL that messages are sent to.")
    types: list[ChangeType] | None = read_from(
        "record.types", "Types of the changes that are sent; null for all."
    )
    warehouse_ids: list[strawberry.ID] | None = read_from(
        "record.warehouse_ids",
        "Ids of the warehouses whose changes are sent; null for all changes, also those without a "
        "warehouse.",
    )
    status: WebhookStatus = read_from("record.status", "Whether the webhook is served.")
    disabling_reason: DisablingReason | None = read_from(
        "record.disabling_reason", "Why the service disabled the webhook; null if it did not."
    )
    signature: SignatureKind = read_from("record.signature", "How messages are signed.")
    public_key: str | None = read_from(
        "record.public_key", "Public key that verifies messages, whpk_...; null for HMAC."
    )
    previous_secret_until: datetime | None = read_from(
        "record.previous_secret_until",
        "Time until which messages are also signed by the secret before the current one.",
    )
    created_at: datetime = read_from("record.created_at", "Time of creation.")
    position: int = quantity_from(
        "record.position", "Position of the feed up to which all changes are delivered."
    )
    failures: int = quantity_from(
        "record.failures", "Number of failed attempts since the last success."
    )
    failing_since: datetime | None = read_from(
        "record.failing_since", "Time of the first failure since the last success."
    )
    next_attempt_at: datetime = read_from(
        "record.next_attempt_at", "Time before which no message is sent."
    )
    last_attempt_at: datetime | None = read_from(
        "record.last_attempt_at", "Time of the last attempt; null without one."
    )
    last_status: int | None = read_from(
        "record.last_status",
        "HTTP status of the response to the last attempt; null without a response.",
        int | None,
    )
    last_error: str | None = read_from(
        "record.last_error", "Why the last attempt got no response; null if it got one."
    )


@strawberry.type(description="An attempt to deliver a message of a webhook.")
class WebhookAttempt:
    """An attempt to deliver a message."""

    record: Private[AttemptRecord]
    message_id: str = read_from(
        "record.message_id", "Id of the message, which all its attempts share: `webhook-id`."
    )
    started_at: datetime = read_from("record.started_at", "Time of the attempt.")
    duration_ms: int = read_from("record.duration_ms", "Duration in milliseconds.", int)
    after: int = quantity_from(
        "record.after_position",
        "Position of the feed before the message. `sendWebhookAgain` with it sends the message "
        "again, and all later ones.",
    )
    read_to: int = quantity_from("record.read_to", "Position up to which the message reaches.")
    changes: int = read_from("record.changes", "Number of changes of the message.", int)
    status: int | None = read_from(
        "record.status", "HTTP status of the response; null without one.", int | None
    )
    error: str | None = read_from("record.error", "Why there was no response; null with one.")
    answer: str | None = read_from("record.answer", "The beginning of the body of the response.")


@strawberry.type
class WebhookQuery:
    """The queries of webhooks."""

    @strawberry.field(
        description="Webhooks of the tenant, oldest first. Needs the scope inventory:admin."
    )
    async def webhooks(
        self, info: Info, first: First = DEFAULT_PAGE, after: After = None
    ) -> Connection[Webhook] | None:
        """Page of webhooks.

        Raises:
            ValidationFailed, InvalidCursor.

        """
        context, limit = info.context, page_size(first)
        tenant_id, spend = context.principal.tenant_id, context.budget.spend
        cursors = context.cursors("webhooks")
        spend(STATEMENT_COST + PARENT_COST)
        records = await list_webhooks(
            context.snapshot, tenant_id, after=cursors.decode(after), limit=limit + 1
        )
        spend(len(records) * ROW_COST)
        context.budget.spend_text(record.url for record in records)

        async def count() -> int:
            spend(STATEMENT_COST)
            return await count_webhooks(context.snapshot, tenant_id)

        return connection_of(
            [Webhook(record=record) for record in records],
            limit=limit,
            after=after,
            cursor_of=lambda node: cursors.encode(node.record.id),
            count=count,
        )

    @strawberry.field(
        description="The webhook with an id, or the error WEBHOOK_NOT_FOUND. Needs the scope "
        "inventory:admin."
    )
    async def webhook(self, info: Info, id: WebhookId) -> Webhook | None:
        """Webhook with an id."""
        return Webhook(record=await _require_webhook(info.context, id))

    @strawberry.field(
        description="The log of a webhook: its newest attempts, newest first. Needs the scope "
        "inventory:admin."
    )
    async def webhook_attempts(
        self,
        info: Info,
        webhook_id: WebhookId,
        first: First = DEFAULT_PAGE,
        after: After = None,
    ) -> Connection[WebhookAttempt] | None:
        """Page of attempts.

        Raises:
            ValidationFailed, InvalidCursor, WebhookNotFound.

        """
        context, limit = info.context, page_size(first)
        tenant_id, spend = context.principal.tenant_id, context.budget.spend
        cursors = context.cursors("webhookAttempts", webhook_id)
        before = cursors.decode(after)
        await _require_webhook(context, webhook_id)
        spend(STATEMENT_COST + PARENT_COST)
        records = await list_attempts(
            context.snapshot, tenant_id, webhook_id, before=before, limit=limit + 1
        )
        spend(len(records) * ROW_COST)
        context.budget.spend_text(
            text for record in records for text in (record.answer, record.error)
        )

        async def count() -> int:
            spend(STATEMENT_COST)
            return await count_attempts(context.snapshot, tenant_id, webhook_id)

        return connection_of(
            [WebhookAttempt(record=record) for record in records],
            limit=limit,
            after=after,
            cursor_of=lambda node: cursors.encode(node.record.id),
            count=count,
        )


async def _require_webhook(context: Context, webhook_id: str) -> WebhookRecord:
    record = await context.loaders.webhook.load(webhook_id)
    if record is None:
        raise webhook_not_found(webhook_id)
    return record
