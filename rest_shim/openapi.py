"""The OpenAPI description of the REST routes: `openapi.yaml`, completed with facts of the code."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from app import errors
from app.domain.caller import SUFFICIENT, Scope
from app.domain.quantities import MAX_QUANTITY
from app.domain.reservations import DEFAULT_HOLD, MAX_HOLD
from app.domain.validation import (
    MAX_BULK_UPDATES,
    MAX_NOTE_LENGTH,
    MAX_REFERENCE_LENGTH,
    MAX_SKU_LENGTH,
    REASON_PATTERN,
    USUAL_REASONS,
)
from app.errors import ERRORS, InventoryError, meanings
from app.graphql.documents import prepared_operations
from app.graphql.schema.cursors import PREFIX
from app.graphql.schema.relay import DEFAULT_PAGE, MAX_PAGE
from app.http.errors import REPLAYED_HEADER, error_headers
from app.http.request_id import REQUEST_ID_HEADER
from rest_shim.endpoint import OPERATIONS
from rest_shim.rendering import ON_ERROR, RESERVATION_STATUSES, STATUSES, WAREHOUSE_TYPES
from rest_shim.routes import ROUTES, RestRoute

Json = dict[str, Any]
Errors = tuple[type[InventoryError], ...]

SOURCE: Final = Path(__file__).with_name("openapi.yaml")
# Errors of every operation.
COMMON_ERRORS: Final[Errors] = (
    errors.MalformedRequest,
    errors.Unauthenticated,
    errors.InsufficientScope,
    errors.ValidationFailed,
    errors.RateLimited,
    errors.Internal,
    errors.Unavailable,
)
# PreconditionFailed has the code of StaleVersion; a route with If-Match adds it.
ERROR_BY_CODE: Final = {
    error.code: error for error in ERRORS if error is not errors.PreconditionFailed
}
# The values that replace `$NAME` in the YAML file.
VALUES: Final[Mapping[str, object]] = {
    "COMMON_REASONS": ", ".join(f"`{reason}`" for reason in USUAL_REASONS),
    "CURSOR_PREFIX": PREFIX,
    "DEFAULT_HOLD": DEFAULT_HOLD,
    "DEFAULT_PAGE": DEFAULT_PAGE,
    "ERROR_CODES": list(ERROR_BY_CODE),
    "ERROR_MEANINGS": meanings(ERRORS),
    "FOREIGN_WAREHOUSE_TYPES": [name for name in WAREHOUSE_TYPES.values() if name != "own"],
    "LAST_BULK_INDEX": MAX_BULK_UPDATES - 1,
    "MAX_BULK_UPDATES": MAX_BULK_UPDATES,
    "MAX_HOLD": MAX_HOLD,
    "MAX_NOTE_LENGTH": MAX_NOTE_LENGTH,
    "MAX_PAGE": MAX_PAGE,
    "MAX_QUANTITY": MAX_QUANTITY,
    "MAX_REFERENCE_LENGTH": MAX_REFERENCE_LENGTH,
    "MAX_SKU_LENGTH": MAX_SKU_LENGTH,
    "MIN_DELTA": -MAX_QUANTITY,
    "ON_ERROR": list(ON_ERROR),
    "REASON_PATTERN": REASON_PATTERN.pattern,
    "RESERVATION_STATUSES": list(RESERVATION_STATUSES),
    "SCOPES": ", ".join(f"`{scope}`" for scope in Scope),
    "STATUSES": list(STATUSES),
    "WAREHOUSE_TYPES": list(WAREHOUSE_TYPES.values()),
}
PLACEHOLDER: Final = re.compile(r"\$([A-Z_]+)")


@cache
def openapi() -> Json:
    """Load the YAML file and complete it."""
    # Imported on demand: only requests for the description need it.
    import yaml  # noqa: PLC0415

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    source = yaml.load(SOURCE.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - it is safe
    del source["x-shared"]
    document: Json = fill(source)
    responses: dict[str, Json] = {}
    for route in ROUTES:
        operation = document["paths"][openapi_path(route)][route.method.lower()]
        responses |= complete(operation, route)
    document["components"]["responses"] = responses
    return document


def fill(node: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Replace the placeholders of a tree; one that is a whole text keeps the type of its value."""
    if isinstance(node, dict):
        return {key: fill(value) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value) for value in node]
    if not isinstance(node, str):
        return node
    whole = PLACEHOLDER.fullmatch(node)
    return VALUES[whole[1]] if whole else PLACEHOLDER.sub(lambda match: str(VALUES[match[1]]), node)


def openapi_path(route: RestRoute) -> str:
    """Path of a route without Starlette's convertors."""
    return route.path.replace(":segment}", "}")


def complete(operation: Json, route: RestRoute) -> dict[str, Json]:
    """Add id, scopes and error responses to an operation, and return these responses by name."""
    [needed] = prepared_operations(OPERATIONS)[route.operation].scopes
    scopes = [scope.value for scope in Scope if scope in SUFFICIENT[needed]]
    operation["operationId"] = route.operation[0].lower() + route.operation[1:]
    listed = " or ".join(f"`{scope}`" for scope in scopes)
    operation["description"] += f"\n\nRequires the scope {listed}."
    operation["security"] = [{"token": [scope]} for scope in scopes]
    own = tuple(ERROR_BY_CODE[code] for code in operation.pop("x-errors"))
    responses: dict[str, Json] = {}
    for status, group in errors_by_status(route, own).items():
        name, response = error_response(group, stored=stored_errors(route, own))
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{name}"}
        responses[name] = response
    return responses


def errors_by_status(route: RestRoute, own: Errors) -> dict[int, Errors]:
    """Group the errors of a route: its own and those that follow from its parameters."""
    found = {*COMMON_ERRORS, *own}
    if "cursor" in route.query:
        found.add(errors.InvalidCursor)
    if route.body is not None:
        found |= {errors.RequestTimeout, errors.PayloadTooLarge, errors.UnsupportedMediaType}
    if "idempotency-key" in route.request_headers:
        found |= {errors.IdempotencyInFlight, errors.IdempotencyKeyReused}
    if "if-match" in route.request_headers:
        found.add(errors.PreconditionFailed)
    return {
        status: tuple(error for error in ERRORS if error in found and error.status == status)
        for status in sorted({error.status for error in found})
    }


def stored_errors(route: RestRoute, own: Errors) -> set[type[InventoryError]]:
    """Errors of a route that are stored under the idempotency key and replayed."""
    if "idempotency-key" not in route.request_headers:
        return set()
    return {*own, errors.PreconditionFailed} - {errors.MethodNotAllowed}


def error_response(group: Errors, *, stored: Iterable[type[InventoryError]]) -> tuple[str, Json]:
    """Build the response for errors that share a status, with its component name."""
    name = "Or".join(error.__name__ for error in group)
    headers = {header: None for error in group for header in error_headers(error(""))}
    # A header of the connection, not of the response.
    headers.pop("Connection", None)
    if not set(group).isdisjoint(stored):
        name += "Again"
        headers |= dict.fromkeys(REPLAYED_HEADER)
    codes = {"error": {"properties": {"code": {"enum": [error.code for error in group]}}}}
    schema = {"$ref": "#/components/schemas/Error", "properties": codes}
    return name, {
        "description": meanings(group),
        "headers": {
            header: {"$ref": f"#/components/headers/{header}"}
            for header in (REQUEST_ID_HEADER, *headers)
        },
        "content": {"application/json": {"schema": schema}},
    }
