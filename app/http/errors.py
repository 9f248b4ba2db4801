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
    UnsupportedMediaType,
)
from app.http.json import JSONResponse
from app.runtime.request_id import current_request_id

REPLAYED_HEADER: Final = {"Idempotent-Replayed": "true"}
GRAPHQL_PATH: Final = "/graphql"

# Headers of every response that does not set them. Pages have a policy of their own.
PROTECTION: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)

# Headers of the responses to some errors.
FIXED_HEADERS: Final[Mapping[type[InventoryError], Mapping[str, str]]] = {
    Unauthenticated: {"WWW-Authenticate": "Bearer"},
    # The rest of the body is not read, so that no other request can follow it.
    RequestTimeout: {"Connection": "close"},
    IdempotencyInFlight: {"Retry-After": "1"},
    Unavailable: {"Retry-After": "1"},
}


def error_facts(error: InventoryError) -> dict[str, object]:
    """Facts of an error for REST and GraphQL; the request id is the last one."""
    facts: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details:
        facts["details"] = error.details
    return {**facts, "request_id": current_request_id.get()}


def graphql_error(error: InventoryError) -> dict[str, object]:
    """Member of `errors` in a GraphQL response."""
    facts = error_facts(error)
    message = facts.pop("message")
    return {
        "message": message,
        "extensions": {"code": error.code, "status": error.status, **facts},
    }


def error_response(error: InventoryError, *, path: str) -> Response:
    """Render an error in the shape of the path: GraphQL or REST."""
    if path == GRAPHQL_PATH:
        content: object = {"errors": [graphql_error(error)]}
    else:
        content = {"error": error_facts(error)}
    headers = {**error_headers(error), **(REPLAYED_HEADER if error.replayed else {})}
    return JSONResponse(content, status_code=error.status, headers=headers)


def error_headers(error: InventoryError) -> Mapping[str, str]:
    """Headers of the response to an error."""
    for type_, headers in FIXED_HEADERS.items():
        if isinstance(error, type_):
            return headers
    if isinstance(error, RateLimited):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, UnsupportedMediaType) and error.accept_encoding:
        return {"Accept-Encoding": error.accept_encoding}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allowed}
    return {}


def inventory_error_of(error: HTTPException) -> InventoryError:
    """Convert an error of Starlette to the error tree of the service."""
    if error.status_code == MethodNotAllowed.status:
        allowed = (error.headers or {}).get("Allow", "").split(", ")
        return MethodNotAllowed(", ".join(sorted(allowed)))
    if error.status_code == NotFound.status:
        message = (
            "This path does not exist. GET /docs lists the REST routes; GraphQL is at /graphql."
        )
        return NotFound(message)
    return MalformedRequest(f"The request is malformed: {error}.")
