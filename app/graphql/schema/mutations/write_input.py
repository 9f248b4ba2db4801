"""Fields and descriptions that the inputs and payloads of several mutations share."""

from typing import Final

import strawberry

from app.graphql.schema.fields import optional

SKU_CODE_DESCRIPTION: Final = "Code of an existing SKU."
IDEMPOTENCY_KEY_DESCRIPTION: Final = (
    "A unique key of 1 to 255 visible ASCII characters. A repeated request with the same key and "
    "input within 24 hours has no second effect and gets the same response."
)
REASON_DESCRIPTION: Final = "Reason code: ^[a-z][a-z0-9_]{0,63}$."
NOTE_DESCRIPTION: Final = "Free text of up to 1000 characters that explains the write."
REFERENCE_DESCRIPTION: Final = (
    "The caller's id of the order, delivery or count, in up to 255 characters."
)
OCCURRED_AT_DESCRIPTION: Final = (
    "Time at which the change occurred, if it is reported late: from 1970 on, and not in the "
    "future. It is information for readers and changes nothing about the result. Without it, the "
    "change occurs now."
)
DRY_RUN_DESCRIPTION: Final = "Validate, return the expected result, and write nothing."
ON_ERROR_DESCRIPTION: Final = "Behaviour if some of the items are refused."
REPLAYED_DESCRIPTION: Final = (
    "Whether this is the stored response to an earlier request with the same key."
)


@strawberry.input
class WriteInput:
    """Fields that inputs of mutations share."""

    idempotency_key: str | None = optional(IDEMPOTENCY_KEY_DESCRIPTION)
    dry_run: bool = strawberry.field(default=False, description=DRY_RUN_DESCRIPTION)
