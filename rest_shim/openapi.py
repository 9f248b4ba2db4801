"""The published description of the REST routes, as OpenAPI 3.1.

Paths, methods, the names of parameters and body fields, scopes, limits and error codes come from
where they are decided; the rest is in `words.py`.
"""

from functools import cache
from typing import Final

from app.auth import SUFFICIENT, Scope
from app.errors import (
    ERRORS,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    InsufficientScope,
    Internal,
    InvalidCursor,
    MalformedRequest,
    PayloadTooLarge,
    PreconditionFailed,
    RateLimited,
    RequestTimeout,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
    meanings,
)
from app.graphql.execution import prepared_operations
from app.http import REPLAYED, REQUEST_ID_HEADER, error_headers
from rest_shim.endpoint import OPERATIONS
from rest_shim.routes import ROUTES, RestRoute
from rest_shim.words import (
    ABOUT,
    ENDING_RULES,
    HEADERS,
    IN_PATH,
    OPTIONAL,
    PARAMETERS,
    RESERVING_RULES,
    SCHEMAS,
    STOCK_RULES,
    TAGS,
    WORDS,
    Json,
    Refusals,
    body,
    ref,
    text,
)

ALWAYS: Final[Refusals] = (
    MalformedRequest,
    Unauthenticated,
    InsufficientScope,
    ValidationFailed,
    RateLimited,
    Internal,
    Unavailable,
)
# Refusals that a repeated request gets again under its idempotency key.
KEPT: Final = frozenset({*STOCK_RULES, *RESERVING_RULES, *ENDING_RULES, PreconditionFailed})


@cache
def openapi() -> dict[str, object]:
    """Return the description of all routes."""
    paths: dict[str, Json] = {}
    schemas = {
        **SCHEMAS,
        "ErrorCode": text(meanings(ERRORS), enum=[*dict.fromkeys(error.code for error in ERRORS)]),
    }
    responses: dict[str, Json] = {}
    for route in ROUTES:
        path = route.path.replace(":segment}", "}")
        paths.setdefault(path, {})[route.method.lower()] = operation(route)
        responses |= dict(refusals(route).values())
        if route.body is not None:
            optional = (*OPTIONAL, *WORDS[route.operation].optional)
            others = WORDS[route.operation].fields
            schemas[f"{route.operation}Body"] = body(route.body, optional=optional, others=others)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Inventory API", "version": "1.0.0", "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": purpose} for name, purpose in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": HEADERS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token. Its scopes, of which each operation names those "
                    f"that suffice: {', '.join(f'`{scope}`' for scope in Scope)}.",
                }
            },
        },
    }


def operation(route: RestRoute) -> Json:
    """Return the description of a route."""
    said = WORDS[route.operation]
    [needed] = prepared_operations(OPERATIONS)[route.operation].scopes
    scopes = [scope.value for scope in Scope if scope in SUFFICIENT[needed]]
    described: Json = {
        "operationId": route.operation[0].lower() + route.operation[1:],
        "tags": [said.tag],
        "summary": said.summary,
        "description": f"{said.description}\n\nNeeds the scope "
        f"{' or '.join(f'`{scope}`' for scope in scopes)}.",
        "security": [{"token": [scope]} for scope in scopes],
        "parameters": parameters(route),
    }
    if route.body is not None:
        schema = ref(f"schemas/{route.operation}Body")
        described["requestBody"] = {
            "required": True,
            "content": json_of(schema, said.body_example),
        }
    answers = {"200": answer(said.summary, said.headers, json_of(said.answer, said.example))}
    if "if-none-match" in header_names(route):
        answers["304"] = answer("The record is still the one that you have.", said.headers)
    refused = {status: ref(f"responses/{name}") for status, (name, _) in refusals(route).items()}
    return {**described, "responses": {**answers, **refused}}


def parameters(route: RestRoute) -> list[Json]:
    """Return the parameters of a route: of its path, its query and its headers."""
    said = {**PARAMETERS, **WORDS[route.operation].parameters}
    return [
        *(
            {"name": name, "in": "path", "required": True, **described}
            for name, described in IN_PATH.items()
            if f"{{{name}:" in route.path
        ),
        *({"name": name, "in": "query", **said[name]} for name in route.query),
        *({"name": name.title(), "in": "header", **said[name]} for name in header_names(route)),
    ]


def header_names(route: RestRoute) -> list[str]:
    """Return the request headers that mean something to a route."""
    conditional = route.method == "GET" and "ETag" in WORDS[route.operation].headers
    return [*route.reads, *(["if-none-match"] if conditional else [])]


def refusals(route: RestRoute) -> dict[str, tuple[str, Json]]:
    """Return the responses by which a route may refuse, each with its name, by HTTP status."""
    found = {*ALWAYS, *WORDS[route.operation].refusals}
    if "cursor" in route.query:
        found.add(InvalidCursor)
    if route.body is not None:
        found |= {RequestTimeout, PayloadTooLarge, UnsupportedMediaType}
    if "idempotency-key" in route.reads:
        found |= {IdempotencyInFlight, IdempotencyKeyReused}
    if "if-match" in route.reads:
        found.add(PreconditionFailed)
    is_repeatable = "idempotency-key" in route.reads
    return {
        str(status): refusal(
            tuple(error for error in ERRORS if error in found and error.status == status),
            is_repeatable=is_repeatable,
        )
        for status in sorted({error.status for error in found})
    }


def refusal(group: Refusals, *, is_repeatable: bool) -> tuple[str, Json]:
    """Return the response of refusals that share a status, with its name."""
    name = "Or".join(error.__name__ for error in group)
    headers = {header: None for error in group for header in error_headers(error(""))}
    # It is about the connection, and not about the answer.
    headers.pop("Connection", None)
    if is_repeatable and not KEPT.isdisjoint(group):
        name += "Again"
        headers |= dict.fromkeys(REPLAYED)
    codes = {"error": {"properties": {"code": {"enum": [error.code for error in group]}}}}
    content = json_of({**ref("schemas/Error"), "properties": codes})
    return name, answer(meanings(group), tuple(headers), content)


def answer(description: str, headers: tuple[str, ...], content: Json | None = None) -> Json:
    """Return a response."""
    described = {name: ref(f"headers/{name}") for name in (REQUEST_ID_HEADER, *headers)}
    content_of = {} if content is None else {"content": content}
    return {"description": description, "headers": described, **content_of}


def json_of(schema: Json, example: Json | None = None) -> Json:
    """Return the content of a JSON body."""
    example_of = {} if example is None else {"example": example}
    return {"application/json": {"schema": schema, **example_of}}
