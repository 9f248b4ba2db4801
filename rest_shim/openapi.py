"""The OpenAPI description of the REST routes: `openapi.yaml`, completed with facts of the code."""

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, Final

from app import errors
from app.domain.caller import SUFFICIENT, Scope
from app.errors import ERRORS, InventoryError, meanings
from app.graphql.documents import prepared_operations
from app.http.errors import REPLAYED_HEADER, error_headers
from app.http.request_id import REQUEST_ID_HEADER
from rest_shim.endpoint import OPERATIONS
from rest_shim.openapi_values import ERROR_BY_CODE, PLACEHOLDER_VALUES
from rest_shim.routes import ROUTES, RestRoute

Json = dict[str, Any]
Errors = Collection[type[InventoryError]]

OPENAPI_SOURCE: Final = Path(__file__).with_name("openapi.yaml")
JSON: Final = "application/json"
# The request id of examples.
REQUEST_ID: Final = "req_01HXAAAAAAAAAAAAAAAAAAAAAA"
PLACEHOLDER: Final = re.compile(r"\$([A-Z_]+)")
# Errors of every operation.
COMMON_ERRORS: Final[Errors] = (
    errors.MalformedRequest,
    errors.Unauthenticated,
    errors.InsufficientScope,
    errors.PreconditionFailed,
    errors.ValidationFailed,
    errors.RateLimited,
    errors.Internal,
    errors.Unavailable,
)


@cache
def openapi() -> Json:
    """Load the YAML file and complete it."""
    # Imported on demand: only requests for the description need it.
    import yaml  # noqa: PLC0415

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    source = yaml.load(OPENAPI_SOURCE.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - safe
    del source["x-shared"]
    document: Json = fill_placeholders(source)
    for route in ROUTES:
        operation = document["paths"][openapi_path(route)][route.method.lower()]
        name, schema = complete_operation(operation, route)
        document["components"]["schemas"][name] = schema
    return document


def fill_placeholders(tree: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Replace the placeholders of a tree. A text of one placeholder takes the type of its value."""
    if isinstance(tree, dict):
        return {key: fill_placeholders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [fill_placeholders(value) for value in tree]
    if not isinstance(tree, str):
        return tree
    if whole := PLACEHOLDER.fullmatch(tree):
        return PLACEHOLDER_VALUES[whole[1]]
    return PLACEHOLDER.sub(lambda match: str(PLACEHOLDER_VALUES[match[1]]), tree)


def openapi_path(route: RestRoute) -> str:
    """Path of a route without Starlette's convertors."""
    return route.path.replace(":segment}", "}")


def complete_operation(operation: Json, route: RestRoute) -> tuple[str, Json]:
    """Add id, scopes and error responses to an operation.

    The schema of its successful response gets a name, for generators of clients. Returns both.
    """
    [needed] = prepared_operations(OPERATIONS)[route.operation].scopes
    scopes = [scope.value for scope in Scope if scope in SUFFICIENT[needed]]
    operation["operationId"] = route.operation[0].lower() + route.operation[1:]
    listed = " or ".join(f"`{scope}`" for scope in scopes)
    operation["description"] += f"\n\nRequires the scope {listed}."
    operation["security"] = [{"token": [scope]} for scope in scopes]
    own = {ERROR_BY_CODE[code] for code in operation.pop("x-errors")}
    for status, group in errors_by_status(route, own).items():
        response = describe_errors(group, stored=stored_errors(route, own))
        operation["responses"][str(status)] = response
    name = f"{route.operation}Response"
    schema: Json = operation["responses"]["200"]["content"][JSON]["schema"]
    for status in operation["responses"].keys() & {"200", "201"}:
        content = operation["responses"][status]["content"][JSON]
        content["schema"] = {"$ref": f"#/components/schemas/{name}"}
    return name, schema


def errors_by_status(route: RestRoute, own: Errors) -> dict[int, Errors]:
    """Group the errors of a route: its own and those that follow from its parameters."""
    all_errors = {*COMMON_ERRORS, *own}
    if "cursor" in route.query:
        all_errors.add(errors.InvalidCursor)
    if route.body is not None:
        all_errors |= {errors.RequestTimeout, errors.PayloadTooLarge, errors.UnsupportedMediaType}
    if "idempotency-key" in route.request_headers:
        all_errors |= {errors.IdempotencyInFlight, errors.IdempotencyKeyReused}
    groups: dict[int, list[type[InventoryError]]] = {}
    for error in ERRORS:
        if error in all_errors:
            groups.setdefault(error.status, []).append(error)
    return dict(sorted(groups.items()))


def stored_errors(route: RestRoute, own: Errors) -> Errors:
    """Errors of a route that are stored under the idempotency key and replayed."""
    if "idempotency-key" not in route.request_headers:
        return set()
    by_rules = {*own} - {errors.MethodNotAllowed}
    return (
        by_rules | {errors.PreconditionFailed} if "if-match" in route.request_headers else by_rules
    )


def describe_errors(group: Errors, *, stored: Errors) -> Json:
    """Describe the response for errors that share a status, with an example of each."""
    headers = {header: None for error in group for header in error_headers(error(""))}
    # A header of the connection, not of the response.
    headers.pop("Connection", None)
    if not set(group).isdisjoint(stored):
        headers |= dict.fromkeys(REPLAYED_HEADER)
    examples = {
        error.code: {
            "summary": error.__doc__,
            "value": {
                "error": {"code": error.code, "message": error.__doc__, "request_id": REQUEST_ID}
            },
        }
        for error in group
    }
    schema = {"$ref": "#/components/schemas/ErrorResponse"}
    return {
        "description": meanings(group),
        "headers": {
            header: {"$ref": f"#/components/headers/{header}"}
            for header in (REQUEST_ID_HEADER, *headers)
        },
        "content": {JSON: {"schema": schema, "examples": examples}},
    }


@cache
def openapi_for_gateways() -> Json:
    """Return the description as OpenAPI 3.0, which gateways and older tools read."""
    document: Json = _as_version_30(openapi())
    document["info"]["license"] = {"name": document["info"]["license"]["name"]}
    return {**document, "openapi": "3.0.3"}


def _as_version_30(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Copy a tree with the keywords of OpenAPI 3.0."""
    if isinstance(node, list):
        return [_as_version_30(item) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _as_version_30(value) for key, value in node.items()}
    if isinstance(copy.get("type"), list):
        [copy["type"]] = [name for name in copy["type"] if name != "null"]
        copy["nullable"] = True
    if copy.get("required") == []:
        del copy["required"]
    if "const" in copy:
        copy["enum"] = [copy.pop("const")]
    return copy
