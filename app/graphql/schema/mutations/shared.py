"""What inputs and payloads of several mutations have in common."""

from typing import Final

import strawberry

from app.graphql.schema.context import Context
from app.graphql.schema.relay import optional
from app.writes.pipeline import WriteContext

IDEMPOTENCY_KEY: Final = (
    "1 to 255 visible ASCII characters of your choice. Sent again with the same input within 24 "
    "hours, it has no second effect and gets the same answer."
)
REASON: Final = "Why, in a word: ^[a-z][a-z0-9_]{0,63}$."
NOTE: Final = "Why, in a sentence of up to 1000 characters."
REFERENCE: Final = (
    "What you call the order, delivery or count that it belongs to, in up to 255 characters."
)
DRY_RUN: Final = "Whether to check and answer as if, and write nothing."
REPLAYED: Final = "Whether this is the answer that an earlier request with the same key got."


@strawberry.input
class WriteInput:
    """What inputs of writes share."""

    idempotency_key: str | None = optional(IDEMPOTENCY_KEY)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN)


def writing(context: Context, input: WriteInput) -> WriteContext:
    """Return how a write of a request is done."""
    return WriteContext(
        database=context.database,
        caller=context.caller,
        key=input.idempotency_key,
        dry_run=input.dry_run,
    )
