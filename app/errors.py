"""The error tree: every refusal of the service, with its code and HTTP status.

InventoryError
├── MalformedRequest        400 MALFORMED_REQUEST
├── Unauthenticated         401 UNAUTHENTICATED
├── InsufficientScope       403 INSUFFICIENT_SCOPE
├── ReadonlyWarehouse       403 READONLY_WAREHOUSE
├── DocumentNotTrusted      403 DOCUMENT_NOT_TRUSTED
├── OversellNotPermitted    403 OVERSELL_NOT_PERMITTED
├── ExpiryRequired          403 EXPIRY_REQUIRED
├── PersistedQueryNotFound  404 PERSISTED_QUERY_NOT_FOUND
├── PersistedQueryNotSupported 400 PERSISTED_QUERY_NOT_SUPPORTED
├── NotFound                404 NOT_FOUND
│   ├── InventoryNotFound       INVENTORY_NOT_FOUND
│   ├── WarehouseNotFound       WAREHOUSE_NOT_FOUND
│   ├── ReservationNotFound     RESERVATION_NOT_FOUND
│   ├── WebhookNotFound         WEBHOOK_NOT_FOUND
│   └── AdjustmentNotFound      ADJUSTMENT_NOT_FOUND
├── MethodNotAllowed        405 METHOD_NOT_ALLOWED
├── StaleVersion            409 STALE_VERSION
│   └── PreconditionFailed  412     by If-Match
├── IdempotencyInFlight     409 IDEMPOTENCY_IN_FLIGHT
├── RequestTimeout          408 REQUEST_TIMEOUT
├── SkuExists               409 SKU_EXISTS
├── ExternalIdTaken         409 EXTERNAL_ID_TAKEN
├── ReservationEnded        409 RESERVATION_ENDED
├── AlreadyReversed         409 ALREADY_REVERSED
├── ChangesGone             410 CHANGES_GONE
├── PayloadTooLarge         413 PAYLOAD_TOO_LARGE
├── UnsupportedMediaType    415 UNSUPPORTED_MEDIA_TYPE
├── ValidationFailed        422 VALIDATION_ERROR
│   ├── IdempotencyKeyReused    IDEMPOTENCY_KEY_REUSED
│   ├── InvalidCursor           INVALID_CURSOR
│   ├── NegativeQuantity        NEGATIVE_QUANTITY
│   ├── InsufficientStock       INSUFFICIENT_STOCK
│   ├── QueryTooComplex         QUERY_TOO_COMPLEX
│   ├── WarehouseInactive       WAREHOUSE_INACTIVE
│   ├── WarehouseNotSellable    WAREHOUSE_NOT_SELLABLE
│   ├── SkuArchived             SKU_ARCHIVED
│   └── WarehouseNotMarketplace WAREHOUSE_NOT_MARKETPLACE
├── RateLimited             429 RATE_LIMITED
├── TooManyStreams          429 TOO_MANY_STREAMS
├── StreamTooSlow           429 STREAM_TOO_SLOW
├── Internal                500 INTERNAL
└── Unavailable             503 UNAVAILABLE

REST renders an error as `{"error": ..}`, GraphQL as `errors[].extensions`.
The messages of errors that many rooms raise stand here; the others stand where a rule is checked.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

Details = Sequence[Mapping[str, object]]

# The maximum number of fields in a message.
LISTED: Final = 5
# The maximum number of fields in the details.
DETAILED: Final = 1_000


class InventoryError(Exception):
    """A refusal with a `message` for people and `details` for programs."""

    code: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, message: str, *, details: Details = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        # Whether the refusal is a replay for a repeated idempotency key.
        self.replayed = False


def copy_error(error: InventoryError) -> InventoryError:
    """Copy an error that several callers raise, because each adds its own traceback."""
    copied = error.__class__.__new__(error.__class__, *error.args)
    vars(copied).update(vars(error))
    copied.__cause__ = error.__cause__
    return copied


class MalformedRequest(InventoryError):
    """The body is not JSON, the path is not UTF-8, or the query is not GraphQL."""

    code = "MALFORMED_REQUEST"
    status = 400


class Unauthenticated(InventoryError):
    """The token is missing, unknown, expired or revoked."""

    code = "UNAUTHENTICATED"
    status = 401


class InsufficientScope(InventoryError):
    """The token is valid but lacks a required scope."""

    code = "INSUFFICIENT_SCOPE"
    status = 403


class ReadonlyWarehouse(InventoryError):
    """The warehouse is read-only: a marketplace operates it (FBA or FBS)."""

    code = "READONLY_WAREHOUSE"
    status = 403


class DocumentNotTrusted(InventoryError):
    """The GraphQL document is not registered; only registered documents are executed."""

    code = "DOCUMENT_NOT_TRUSTED"
    status = 403


class PersistedQueryNotFound(InventoryError):
    """The hash of the persisted query is not registered; send the text of the document."""

    code = "PERSISTED_QUERY_NOT_FOUND"
    status = 404


class PersistedQueryNotSupported(InventoryError):
    """The service does not store queries of clients; send the text of the document."""

    code = "PERSISTED_QUERY_NOT_SUPPORTED"
    status = 400


class OversellNotPermitted(InventoryError):
    """The tenant does not permit reservations that exceed the available stock."""

    code = "OVERSELL_NOT_PERMITTED"
    status = 403


class ExpiryRequired(InventoryError):
    """The tenant does not permit reservations that do not expire."""

    code = "EXPIRY_REQUIRED"
    status = 403


class NotFound(InventoryError):
    """The path does not exist."""

    code = "NOT_FOUND"
    status = 404


class InventoryNotFound(NotFound):
    """The SKU has no inventory record."""

    code = "INVENTORY_NOT_FOUND"


class WarehouseNotFound(NotFound):
    """The warehouse id does not exist."""

    code = "WAREHOUSE_NOT_FOUND"


class ReservationNotFound(NotFound):
    """The reservation id does not exist."""

    code = "RESERVATION_NOT_FOUND"


class WebhookNotFound(NotFound):
    """The webhook id does not exist."""

    code = "WEBHOOK_NOT_FOUND"


class AdjustmentNotFound(NotFound):
    """No adjustment has this id, or none belongs to this bulk or transfer."""

    code = "ADJUSTMENT_NOT_FOUND"


class MethodNotAllowed(InventoryError):
    """The path does not support the method; the header `Allow` lists the supported methods."""

    code = "METHOD_NOT_ALLOWED"
    status = 405

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed}.")
        self.allowed = allowed


class StaleVersion(InventoryError):
    """The stock differs from the expected value; `details` have the current value."""

    code = "STALE_VERSION"
    status = 409


class PreconditionFailed(StaleVersion):
    """A condition in `If-Match` or `If-None-Match` is not met, or cannot be met."""

    status = 412


class IdempotencyInFlight(InventoryError):
    """Another write of the tenant, perhaps with this idempotency key, is running; retry later."""

    code = "IDEMPOTENCY_IN_FLIGHT"
    status = 409


class RequestTimeout(InventoryError):
    """The headers or the body were not received in time."""

    code = "REQUEST_TIMEOUT"
    status = 408


class SkuExists(InventoryError):
    """A SKU with this code exists already, active or archived."""

    code = "SKU_EXISTS"
    status = 409


class ExternalIdTaken(InventoryError):
    """An external id belongs to another SKU or warehouse; `details` name it."""

    code = "EXTERNAL_ID_TAKEN"
    status = 409


class ReservationEnded(InventoryError):
    """The reservation was committed or released, or has expired; `details` have the time."""

    code = "RESERVATION_ENDED"
    status = 409


class AlreadyReversed(InventoryError):
    """The adjustment was reversed already; `details` have the id of the reversal."""

    code = "ALREADY_REVERSED"
    status = 409


class ChangesGone(InventoryError):
    """The feed does not have the changes after the position; read the lists again."""

    code = "CHANGES_GONE"
    status = 410


class PayloadTooLarge(InventoryError):
    """The body exceeds the maximum size."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class UnsupportedMediaType(InventoryError):
    """The `Content-Type` of the body is not `application/json`, or the body is compressed."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415

    def __init__(self, message: str, *, accept_encoding: str | None = None) -> None:
        super().__init__(message)
        # The encodings of bodies that the service takes, if the encoding is the fault.
        self.accept_encoding = accept_encoding


class ValidationFailed(InventoryError):
    """A value is missing, of the wrong type or out of range; `details` list each field."""

    code = "VALIDATION_ERROR"
    status = 422


class IdempotencyKeyReused(ValidationFailed):
    """The idempotency key was used for a different request; use a new key for each request."""

    code = "IDEMPOTENCY_KEY_REUSED"


class InvalidCursor(ValidationFailed):
    """The cursor is not from this list with these filters."""

    code = "INVALID_CURSOR"


class NegativeQuantity(ValidationFailed):
    """The resulting quantity would be negative."""

    code = "NEGATIVE_QUANTITY"


class InsufficientStock(ValidationFailed):
    """Less stock is available than requested; `details` have the available quantity."""

    code = "INSUFFICIENT_STOCK"


class QueryTooComplex(ValidationFailed):
    """The GraphQL document, or the work for its response, exceeds a limit; `details` have it."""

    code = "QUERY_TOO_COMPLEX"


class WarehouseInactive(ValidationFailed):
    """The warehouse is inactive: its stock can only be decreased."""

    code = "WAREHOUSE_INACTIVE"


class WarehouseNotSellable(ValidationFailed):
    """The stock of the warehouse is not for sale: it cannot be reserved."""

    code = "WAREHOUSE_NOT_SELLABLE"


class RateLimited(InventoryError):
    """The token exceeded its request rate; `Retry-After` has the seconds to wait."""

    code = "RATE_LIMITED"
    status = 429

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyStreams(InventoryError):
    """The token has too many open streams; close one of them first."""

    code = "TOO_MANY_STREAMS"
    status = 429


class StreamTooSlow(InventoryError):
    """The client reads the stream too slowly; open it again from the last received position."""

    code = "STREAM_TOO_SLOW"
    status = 429


class SkuArchived(ValidationFailed):
    """The SKU is archived: its stock can only be decreased."""

    code = "SKU_ARCHIVED"


class WarehouseNotMarketplace(ValidationFailed):
    """The warehouse has the type own, so there is no other operator who reports its stock."""

    code = "WAREHOUSE_NOT_MARKETPLACE"


class Internal(InventoryError):
    """The service failed; its log has the error with the request id."""

    code = "INTERNAL"
    status = 500

    def __init__(
        self, message: str = "The service failed. Report this request id if it happens again."
    ) -> None:
        super().__init__(message)


class Unavailable(InventoryError):
    """The database is unreachable or overloaded; retry later."""

    code = "UNAVAILABLE"
    status = 503
    # Address and state of the database, for operators. Clients do not see it.
    cause: str = ""


def meanings(errors: Iterable[type[InventoryError]]) -> str:
    """Render a Markdown list of error codes and their meanings."""
    return "\n".join(f"- `{code}` {text}" for code, text in code_meanings(errors).items())


def code_meanings(errors: Iterable[type[InventoryError]]) -> dict[str, str]:
    """Statuses and meanings of errors by code."""
    by_code: dict[str, list[str]] = {}
    for error in errors:
        by_code.setdefault(error.code, []).append(f"{error.status}: {error.__doc__}")
    return {code: " ".join(texts) for code, texts in by_code.items()}


def inventory_not_found(code: str, similar: str | None = None) -> InventoryNotFound:
    """Create the refusal of an unknown SKU code; `similar` is an existing code like it."""
    message = f"SKU {code!r} has no inventory record."
    if similar is None:
        return InventoryNotFound(message, details=[{"sku": code}])
    message += f" SKU {similar!r} exists: case and leading zeros count."
    return InventoryNotFound(message, details=[{"sku": code, "similar": similar}])


def warehouse_not_found(warehouse_id: str) -> WarehouseNotFound:
    """Create the refusal of an unknown warehouse id."""
    return WarehouseNotFound(
        f"Warehouse {warehouse_id!r} does not exist; GET /api/inventory/warehouses lists all.",
        details=[{"warehouse_id": warehouse_id}],
    )


def reservation_not_found(reservation_id: str) -> ReservationNotFound:
    """Return the refusal of a reservation id that the tenant does not have."""
    return ReservationNotFound(
        f"Reservation {reservation_id!r} does not exist.", details=[{"id": reservation_id}]
    )


def invalid_field(field: str, message: str) -> ValidationFailed:
    """Create the refusal of one field; the message completes the sentence 'field ..'."""
    return invalid_fields([(field, message)])


def invalid_fields(problems: Sequence[tuple[str, str]]) -> ValidationFailed:
    """Create the refusal of several fields, from pairs of field and message."""
    listing = "; ".join(f"{field} {message}" for field, message in problems[:LISTED])
    more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return ValidationFailed(
        f"{listing}{more}.",
        details=[{"field": field, "message": message} for field, message in problems[:DETAILED]],
    )


ERRORS: Final[tuple[type[InventoryError], ...]] = tuple(
    value
    for value in globals().copy().values()
    if isinstance(value, type) and issubclass(value, InventoryError) and value is not InventoryError
)
