"""The mutations of webhooks.

They take no idempotency key: the stored response would contain the secret. A webhook that was
created twice is visible in the list.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar

import strawberry
from strawberry import UNSET

from app.domain.webhooks import MAX_FILTERED_WAREHOUSES, MAX_URL_LENGTH, MAX_WEBHOOKS, WebhookRecord
from app.graphql.schema.context import Context, Info
from app.graphql.schema.enums import ChangeType, SignatureKind
from app.graphql.schema.fields import described_field, optional
from app.graphql.schema.mutations.write_input import WriteInput
from app.graphql.schema.scalars import Quantity
from app.graphql.schema.webhooks import Webhook
from app.writes.idempotency_keys import WriteResult
from app.writes.pipeline import WriteContext
from app.writes.webhooks import (
    MAX_SECRET_OVERLAP_HOURS,
    SignedWebhook,
    create_webhook,
    delete_webhook,
    rotate_webhook_secret,
    send_again,
    update_webhook,
)

Stored = TypeVar("Stored")
URL_DESCRIPTION: Final = (
    f"URL of the endpoint, https://... with up to {MAX_URL_LENGTH:,} characters. Its name must "
    "have a public address whenever a message is sent."
)
TYPES_DESCRIPTION: Final = "Types of the changes to send. Null sends all types."
WAREHOUSES_DESCRIPTION: Final = (
    f"Ids of up to {MAX_FILTERED_WAREHOUSES} warehouses whose changes are sent. Null sends all "
    "changes, also those without a warehouse."
)


@strawberry.input(description="A webhook to create.")
class CreateWebhookInput:
    """A webhook to create."""

    url: str = described_field(URL_DESCRIPTION)
    types: list[ChangeType] | None = optional(TYPES_DESCRIPTION)
    warehouse_ids: list[strawberry.ID] | None = optional(WAREHOUSES_DESCRIPTION)
    signature: SignatureKind = strawberry.field(
        default=SignatureKind.HMAC, description="How messages are signed. It never changes."
    )


@strawberry.input(description="Changes of a webhook. Omitted fields keep their values.")
class UpdateWebhookInput:
    """Changes of a webhook."""

    id: strawberry.ID = described_field("Webhook id, whk_...")
    url: str | None = optional(f"{URL_DESCRIPTION} Null keeps the current URL.")
    types: list[ChangeType] | None = strawberry.field(default=UNSET, description=TYPES_DESCRIPTION)
    warehouse_ids: list[strawberry.ID] | None = strawberry.field(
        default=UNSET, description=WAREHOUSES_DESCRIPTION
    )
    is_paused: bool | None = optional(
        "Whether sending pauses. `false` also activates a disabled webhook. It goes on where it "
        "stopped; the error CHANGES_GONE says that these changes are not kept. Null keeps the "
        "current value."
    )

    def changes(self) -> dict[str, Any]:
        """Values to change."""
        values: dict[str, Any] = {}
        if self.url is not None:
            values["url"] = self.url
        if self.types is not UNSET:
            values["types"] = self.types
        if self.warehouse_ids is not UNSET:
            values["warehouse_ids"] = self.warehouse_ids
        if self.is_paused is not None:
            values["is_paused"] = self.is_paused
        return values


@strawberry.input(description="A secret to rotate.")
class RotateWebhookSecretInput:
    """A secret to rotate."""

    id: strawberry.ID = described_field("Webhook id, whk_...")
    overlap_hours: int = strawberry.field(
        default=24,
        description=f"Hours for which the old secret signs as well, 0 to "
        f"{MAX_SECRET_OVERLAP_HOURS}.",
    )


@strawberry.input(description="A position from which a webhook sends again.")
class SendWebhookAgainInput:
    """A position from which a webhook sends again."""

    id: strawberry.ID = described_field("Webhook id, whk_...")
    after: Quantity = described_field(
        "Position of the feed. All changes after it are sent, in new messages. `newestPosition` of "
        "the feed skips the changes that were not delivered."
    )


@strawberry.input(description="A webhook to delete.")
class DeleteWebhookInput:
    """A webhook to delete."""

    id: strawberry.ID = described_field("Webhook id, whk_...")


@strawberry.type(description="Result of a write of a webhook.")
class WebhookPayload:
    """Result of a write of a webhook."""

    webhook: Webhook = described_field("The webhook after the write; a deleted one before it.")


@strawberry.type(description="Result of a write that makes a secret.")
class WebhookSecretPayload:
    """Result of a write that makes a secret."""

    webhook: Webhook = described_field("The webhook after the write.")
    secret: str | None = described_field(
        "The secret that signs messages, whsec_... It is shown once. Null for Ed25519, whose "
        "public key is a field of the webhook."
    )


@strawberry.type
class WebhookMutation:
    """The mutations of webhooks."""

    @strawberry.mutation(
        description="Create a webhook for the changes that follow. A tenant has at most "
        f"{MAX_WEBHOOKS}. Needs the scope inventory:admin."
    )
    async def create_webhook(
        self,
        info: Info,
        input: Annotated[CreateWebhookInput, strawberry.argument(description="Webhook to create.")],
    ) -> WebhookSecretPayload | None:
        """Create a webhook."""
        created = await _written(
            info.context,
            lambda writing: create_webhook(
                writing.database,
                writing.caller.tenant_id,
                url=input.url,
                types=input.types,
                warehouse_ids=input.warehouse_ids,
                signature=input.signature,
            ),
        )
        return _secret_payload(created)

    @strawberry.mutation(
        description="Change the URL or the filters of a webhook, pause it or activate it. Needs "
        "the scope inventory:admin."
    )
    async def update_webhook(
        self,
        info: Info,
        input: Annotated[
            UpdateWebhookInput, strawberry.argument(description="Changes of the webhook.")
        ],
    ) -> WebhookPayload | None:
        """Change a webhook."""
        record = await _written(
            info.context,
            lambda writing: update_webhook(
                writing.database, writing.caller.tenant_id, input.id, input.changes()
            ),
        )
        return _webhook_payload(record)

    @strawberry.mutation(
        description="Replace the secret of a webhook. Messages are signed by the old one as well "
        "for some hours. Needs the scope inventory:admin."
    )
    async def rotate_webhook_secret(
        self,
        info: Info,
        input: Annotated[
            RotateWebhookSecretInput, strawberry.argument(description="Secret to rotate.")
        ],
    ) -> WebhookSecretPayload | None:
        """Rotate the secret of a webhook."""
        rotated = await _written(
            info.context,
            lambda writing: rotate_webhook_secret(
                writing.database,
                writing.caller.tenant_id,
                input.id,
                overlap=timedelta(hours=input.overlap_hours),
            ),
        )
        return _secret_payload(rotated)

    @strawberry.mutation(
        description="Send the changes after a position again. The error CHANGES_GONE says that "
        "they are not kept. Needs the scope inventory:admin."
    )
    async def send_webhook_again(
        self,
        info: Info,
        input: Annotated[
            SendWebhookAgainInput, strawberry.argument(description="Position to send from.")
        ],
    ) -> WebhookPayload | None:
        """Send changes again."""
        record = await _written(
            info.context,
            lambda writing: send_again(
                writing.database, writing.caller.tenant_id, input.id, after=input.after
            ),
        )
        return _webhook_payload(record)

    @strawberry.mutation(
        description="Delete a webhook with its log. Needs the scope inventory:admin."
    )
    async def delete_webhook(
        self,
        info: Info,
        input: Annotated[DeleteWebhookInput, strawberry.argument(description="Webhook to delete.")],
    ) -> WebhookPayload | None:
        """Delete a webhook."""
        record = await _written(
            info.context,
            lambda writing: delete_webhook(writing.database, writing.caller.tenant_id, input.id),
        )
        return _webhook_payload(record)


async def _written(
    context: Context, command: Callable[[WriteContext], Awaitable[Stored]]
) -> Stored:
    async def write(writing: WriteContext) -> WriteResult[Stored]:
        return WriteResult(await command(writing), replayed=False)

    return (await context.write(WriteInput(), write)).result


def _webhook_payload(record: WebhookRecord) -> WebhookPayload:
    return WebhookPayload(webhook=Webhook(record=record))


def _secret_payload(signed: SignedWebhook) -> WebhookSecretPayload:
    return WebhookSecretPayload(webhook=Webhook(record=signed.record), secret=signed.secret)
