"""Errors as HTTP responses."""

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import (
    IdempotencyInFlight,
    InventoryError,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    RequestTimeout,
    Unauthenticated,
    Unavailable,
)
from app.http.json import JSONResponse
from app.http.request_id import current_request_id

REPLAYED_HEADER: Final = {"Idempotent-Replayed": "true"}
GRAPHQL_PATH: Final = "/graphql"

# What every answer has, unless it has its own. Pages say what they may load; data loads nothing.
PROTECTION: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


def error_facts(error: InventoryError) -> dict[str, object]:
    """Return the body of an error as both faces know it, its request id last."""
    facts: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details:
        facts["details"] = error.details
    return {**facts, "request_id": current_request_id.get()}


def error_response(error: InventoryError, *, path: str) -> Response:
    """Return an error in the shape of the face that was asked."""
    facts = error_facts(error)
    if path == GRAPHQL_PATH:
        message = facts.pop("message")
        extensions = {"code": error.code, "status": error.status, **facts}
        content: object = {"errors": [{"message": message, "extensions": extensions}]}
    else:
        content = {"error": facts}
    headers = {**error_headers(error), **(REPLAYED_HEADER if error.replayed else {})}
    return JSONResponse(content, status_code=error.status, headers=headers)


def error_headers(error: InventoryError) -> Mapping[str, str]:
    """Return the headers that go with an error."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, RateLimited):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, RequestTimeout):
        # What is left of the body is not read, so nothing can follow it.
        return {"Connection": "close"}
    if isinstance(error, (IdempotencyInFlight, Unavailable)):
        return {"Retry-After": "1"}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allowed}
    return {}


def refusal_of_http_exception(error: HTTPException) -> InventoryError:
    """Give Starlette's own refusals a place in our error tree."""
    if error.status_code == MethodNotAllowed.status:
        allowed = (error.headers or {}).get("Allow", "").split(", ")
        return MethodNotAllowed(", ".join(sorted(allowed)))
    if error.status_code == NotFound.status:
        message = "There is nothing here. GET /docs shows the REST routes; /graphql is GraphQL."
        return NotFound(message)
    return MalformedRequest(f"The request cannot be answered: {error}.")
