"""Bind, execute, render: how every REST route is answered."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.auth import Authenticator, Principal
from app.database import Database
from app.errors import (
    InventoryError,
    MalformedRequest,
    MethodNotAllowed,
    PreconditionFailed,
    StaleVersion,
    ValidationFailed,
    invalid_fields,
)
from app.graphql.execution import Operation, prepared_operations, refusal_of, run
from app.graphql.relay import MAX_PAGE
from app.http import JSONResponse, read_json
from app.settings import Settings
from rest_shim.binding import bind_body, bind_headers, bind_query
from rest_shim.rendering import adjustment
from rest_shim.routes import ROUTES, RestRoute

OPERATIONS: Final = (Path(__file__).parent / "operations.graphql").read_text(encoding="utf-8")
REST_NAMES: Final = {
    "first": "limit",
    "after": "cursor",
    "expectedSkuVersions": "If-Match",
    "idempotencyKey": "Idempotency-Key",
}
# How many rows of a stream are asked for at once; twice as many are in memory.
STREAMED: Final = 2_000
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class SegmentConvertor(Convertor[str]):
    """A path segment as it was sent, percent-decoded exactly once."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the SKU code, or id, of a segment."""
        try:
            return unquote_to_bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            message = "The path is not percent-encoded UTF-8."
            raise MalformedRequest(message) from error

    def to_string(self, value: str) -> str:
        """Refuse: no route is ever spelled from here."""
        raise NotImplementedError(value)


register_url_convertor("segment", SegmentConvertor())


class Shim:
    """What the REST routes need of the service."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        authenticator: Authenticator,
    ) -> None:
        self.settings = settings
        self.database = database
        self.authenticator = authenticator
        self.operations = prepared_operations(OPERATIONS)

    def routes(self) -> list[Route]:
        """Return one Starlette route per path."""
        by_path: dict[str, dict[str, RestRoute]] = {}
        for route in ROUTES:
            by_path.setdefault(route.path, {})[route.method] = route
        return [Route(path, PathEndpoint(self, routes)) for path, routes in by_path.items()]

    async def answer(self, route: RestRoute, request: Request) -> Response:
        """Answer a request: credential, scope, shape, then whatever the operation finds."""
        principal = await self.authenticator.authenticate(request.headers.get("authorization"))
        operation = self.operations[route.operation]
        for scope in operation.scopes:
            principal.require(scope)
        variables = {
            **request.path_params,
            **bind_query(request.scope["query_string"], route.query),
        }
        variables |= bind_headers(request.headers, route.reads)
        if route.body is not None:
            variables |= bind_body(await read_json(request, self.settings), route.body)
        if route.streams and route.unless.isdisjoint(variables):
            return await self.stream(self.operations[route.streams], variables, request)
        data = await self.execute(operation, variables, principal)
        headers = route.headers(data)
        if request.method in ("GET", "HEAD") and is_known(headers.get("ETag"), request):
            return Response(status_code=304, headers=headers)
        return JSONResponse(route.render(data, variables), headers=headers)

    async def execute(
        self,
        operation: Operation,
        variables: Mapping[str, object],
        principal: Principal,
        *,
        longest_page: int = MAX_PAGE,
    ) -> Mapping[str, Any]:
        """Return the data of an operation.

        Raises:
            InventoryError: the first of its errors, its fields by their REST names.

        """
        try:
            result = await run(
                operation,
                variables,
                principal,
                self.database,
                # The pages of a stream are longer than those of clients.
                limit=self.settings.max_answer_cost * longest_page // MAX_PAGE,
                may_bulk=self.settings.bulk_completion,
                longest_page=longest_page,
            )
        except ValidationFailed as error:
            raise in_rest_names(error) from error
        if result.errors:
            raise in_rest_names(refusal_of(result.errors[0]))
        data: Mapping[str, Any] = result.data or {}
        return data

    async def stream(
        self, operation: Operation, variables: Mapping[str, object], request: Request
    ) -> Response:
        """Answer with a whole history, in the memory of two pages.

        GraphQL has no way to say "all": the operation is run page by page, by longer ones than
        clients may ask for. What is wrong with the request shows on the first page, before
        anything is sent. Every page asks again who reads it: a token that is revoked meanwhile
        breaks the stream off.
        """
        authorization = request.headers.get("authorization")

        async def page_of(variables: Mapping[str, object]) -> Mapping[str, Any]:
            principal = await self.authenticator.identify(authorization)
            data = await self.execute(
                operation, {**variables, "limit": STREAMED}, principal, longest_page=STREAMED
            )
            page: Mapping[str, Any] = data["adjustments"]
            return page

        first = await page_of(variables)

        async def chunks() -> AsyncGenerator[bytes, None]:
            page, start = first, b'{"data":['
            while page["pageInfo"]["hasNextPage"]:
                cursor = page["pageInfo"]["endCursor"]
                # The database reads the next page while this one is sent.
                following = asyncio.create_task(page_of({**variables, "cursor": cursor}))
                try:
                    yield start + _joined(page["nodes"])
                    start = b","
                    page = await following
                finally:
                    # The client may have hung up.
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            yield start + _joined(page["nodes"]) + b"]}"

        return Stream(chunks())


class Stream(StreamingResponse):
    """JSON from a generator, which is closed with the response, however that ends."""

    media_type = "application/json"

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(chunks)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()


class PathEndpoint:
    """All methods of one path, an ASGI application."""

    def __init__(self, shim: Shim, routes: Mapping[str, RestRoute]) -> None:
        self._shim = shim
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in self._routes:
            head = {"HEAD"} if "GET" in self._routes else set()
            raise MethodNotAllowed(", ".join(sorted(head | self._routes.keys())))
        response = await self._shim.answer(self._routes[method], Request(scope, receive))
        await response(scope, receive, send)


def is_known(etag: str | None, request: Request) -> bool:
    """Tell whether the client says that it has this version already (If-None-Match)."""
    known = request.headers.get("if-none-match")
    if etag is None or known is None:
        return False
    return known.strip() == "*" or etag in (
        tag.strip(" ").removeprefix("W/") for tag in known.split(",")
    )


def in_rest_names(error: InventoryError) -> InventoryError:
    """Return an error with its fields by their REST names, and If-Match's failure as 412."""
    details = [
        {**detail, "field": _rest_name(str(detail["field"]))} if "field" in detail else detail
        for detail in error.details
    ]
    fields = [detail.get("field") for detail in details]
    if isinstance(error, StaleVersion) and "If-Match" in fields:
        failed = PreconditionFailed(error.message, details=details)
        failed.replayed = error.replayed
        return failed
    if details and None not in fields and error.code == ValidationFailed.code:
        return invalid_fields([(str(it["field"]), str(it["message"])) for it in details])
    error.details = details
    return error


def _rest_name(field: str) -> str:
    return ".".join(REST_NAMES.get(part, _HUMP.sub("_", part).lower()) for part in field.split("."))


def _joined(nodes: Iterable[Mapping[str, Any]]) -> bytes:
    return orjson.dumps([adjustment(node) for node in nodes])[1:-1]
