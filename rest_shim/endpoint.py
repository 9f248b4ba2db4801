"""Responds to REST requests: bind variables, execute the operation, render the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from graphql import ExecutionResult
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.domain.caller import Principal
from app.domain.stock import NO_PROBLEMS
from app.errors import (
    InventoryError,
    MalformedRequest,
    MethodNotAllowed,
    PreconditionFailed,
    StaleVersion,
    ValidationFailed,
    invalid_fields,
)
from app.graphql.documents import Operation, prepared_operations, refusal_of, run
from app.graphql.schema.relay import MAX_PAGE
from app.graphql.subscriptions import open_subscription, subscriber_of
from app.http.errors import error_facts
from app.http.event_stream import EventStream, accepts_only_events, event_bytes, last_event_id
from app.http.json import JSONResponse, read_json, to_json
from app.live.streams import Streams, event_chunks
from app.runtime.observation import operation_span
from app.runtime.request_facts import current_request_facts
from app.settings import Settings
from rest_shim.binding import ROW_PROBLEMS, bind_body, bind_headers, bind_query, query_parameters
from rest_shim.names import rest_name
from rest_shim.preconditions import check_headers, check_read
from rest_shim.rendering import Data
from rest_shim.routes import ROUTES, EventRoute, RestRoute
from rest_shim.streaming import STREAM_PAGE, PageReader, stream_pages

OPERATIONS: Final = Path(__file__).with_name("operations.graphql").read_text(encoding="utf-8")


class SegmentConvertor(Convertor[str]):
    """A path segment, percent-decoded exactly once."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Decode a segment to a SKU code or an id."""
        try:
            return unquote_to_bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"The path segment {value[:100]} is not UTF-8. Percent-encode it as UTF-8."
            raise MalformedRequest(message) from error

    def to_string(self, value: str) -> str:
        """Raise, because no URL is built from a route."""
        raise NotImplementedError(value)


register_url_convertor("segment", SegmentConvertor())


class Shim:
    """Executes the operations of the REST routes."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        authenticator: Authenticator,
        streams: Streams,
        columnar: bool = True,
    ) -> None:
        self.settings = settings
        self.database = database
        self.authenticator = authenticator
        self.streams = streams
        self.columnar = columnar
        self.operations = prepared_operations(OPERATIONS)

    def routes(self) -> list[Route]:
        """Build one Starlette route per path."""
        by_path: dict[str, dict[str, RestRoute]] = {}
        for route in ROUTES:
            by_path.setdefault(route.path, {})[route.method] = route
        return [Route(path, PathEndpoint(self, routes)) for path, routes in by_path.items()]

    async def respond(self, route: RestRoute, request: Request) -> Response:
        """Respond to a request. The checks run in this order: token, scope, shape, operation."""
        principal = await self.authenticator.authenticate(request.headers.get("authorization"))
        if (facts := current_request_facts.get()) is not None:
            facts.operation = route.operation
        operation = self.operations[route.operation]
        for scope in operation.scopes:
            principal.require(scope)
        parameters = query_parameters(request.scope["query_string"])
        if route.subscription and _wants_events(request):
            return await self._subscribe(route.subscription, parameters, principal, request)
        operation_name, query = route.narrowed_by(dict(parameters))
        operation = self.operations[operation_name]
        operation.require_access(principal)
        variables = {**request.path_params, **bind_query(parameters, query)}
        if route.body is not None:
            body = await read_json(request, self.settings, may_be_empty=route.may_lack_body)
            variables |= bind_body(body, route.body)
        is_read = request.method in ("GET", "HEAD")
        try:
            check_headers(request.headers, is_read=is_read, has_tag=route.has_tag)
            variables |= bind_headers(request.headers, route.request_headers)
        except PreconditionFailed:
            # A condition counts only if the request would succeed without it (RFC 9110, 13.2.1).
            await self.execute(operation, {**variables, "dry_run": True}, principal)
            raise
        if route.stream_operation and route.page_parameters.isdisjoint(variables):
            stream_operation = self.operations[route.stream_operation]
            return await stream_pages(self._page_reader(stream_operation, variables, request))
        data = await self.execute(operation, variables, principal, longest_page=route.longest_page)
        rendered = route.render(data, variables)
        response = JSONResponse(rendered)
        headers = route.response_headers(data, bytes(response.body))
        if is_read and check_read(request.headers, headers.get("ETag")):
            return Response(status_code=304, headers=headers)
        if variables.get("dry_run"):
            # The stored record does not have the version that a dry run forecasts.
            headers = {name: value for name, value in headers.items() if name != "ETag"}
        elif route.creates:
            response.status_code = 201
            location = f"{request.scope.get('root_path', '')}{route.path}/{_created_id(rendered)}"
            headers = {**headers, "Location": location}
        response.headers.update(headers)
        return response

    async def execute(
        self,
        operation: Operation,
        variables: Mapping[str, Any],
        principal: Principal,
        *,
        longest_page: int = MAX_PAGE,
    ) -> Mapping[str, Any]:
        """Execute an operation and return its data.

        Raises:
            InventoryError: the first error of the operation, with the REST names of its fields.

        """
        try:
            with operation_span(operation.root_field):
                result = await run(
                    operation,
                    variables,
                    principal,
                    self.database,
                    # The pages of a stream are longer than those of clients.
                    limit=self.settings.max_answer_cost * longest_page // MAX_PAGE,
                    columnar=self.columnar,
                    longest_page=longest_page,
                    row_problems=variables.get(ROW_PROBLEMS, NO_PROBLEMS),
                )
        except ValidationFailed as error:
            raise with_rest_names(error) from error
        if result.errors:
            raise with_rest_names(refusal_of(result.errors[0]))
        data: Mapping[str, Any] = result.data or {}
        return data

    async def _subscribe(
        self,
        route: EventRoute,
        parameters: Sequence[tuple[str, str]],
        principal: Principal,
        request: Request,
    ) -> Response:
        """Open a subscription, and respond with its events."""
        operation = self.operations[route.operation]
        try:
            subscription = await open_subscription(
                operation,
                bind_query(parameters, route.query),
                self.database,
                subscriber=subscriber_of(self.streams, principal, request),
                limit=self.settings.max_answer_cost,
            )
        except InventoryError as error:
            raise with_rest_names(error) from error

        def render(position: int | None, result: ExecutionResult) -> bytes:
            return event_bytes(to_json(route.render(result.data or {})), position=position)

        chunks = event_chunks(
            subscription.stream,
            render=subscription.renderer(render),
            heartbeat=lambda position: event_bytes(position=position),
            end=lambda error: event_bytes(to_json({"error": error_facts(error)}), name="error"),
        )
        return EventStream(chunks, subscription.stream.close)

    def _page_reader(
        self, operation: Operation, variables: Mapping[str, object], request: Request
    ) -> PageReader:
        authorization = request.headers.get("authorization")

        async def read_page(position: Mapping[str, object]) -> Data:
            # Checked for each page, so that the stream stops when the token is revoked.
            principal = await self.authenticator.identify(authorization)
            data = await self.execute(
                operation,
                {**variables, **position, "limit": STREAM_PAGE},
                principal,
                longest_page=STREAM_PAGE,
            )
            page: Data = data["adjustments"]
            return page

        return read_page


class PathEndpoint:
    """The ASGI application for all methods of one path."""

    def __init__(self, shim: Shim, routes: Mapping[str, RestRoute]) -> None:
        self._shim = shim
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the route of the method."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in self._routes:
            head = {"HEAD"} if "GET" in self._routes else set()
            raise MethodNotAllowed(", ".join(sorted(head | self._routes.keys())))
        response = await self._shim.respond(self._routes[method], Request(scope, receive))
        await response(scope, receive, send)


def _wants_events(request: Request) -> bool:
    """Whether a request wants a stream; a malformed Last-Event-ID is refused in any case."""
    last_event_id(request.headers)
    return accepts_only_events(request)


def _created_id(body: Any) -> str:  # noqa: ANN401 - any JSON
    return str(body["data"]["id"])


def with_rest_names(error: InventoryError) -> InventoryError:
    """Convert an error to REST: field names of REST, and 412 if If-Match failed."""
    details = [_with_rest_names(detail) for detail in error.details]
    fields = [detail.get("field") for detail in details]
    if isinstance(error, StaleVersion) and "If-Match" in fields:
        failed = PreconditionFailed(error.message, details=details)
        failed.replayed = error.replayed
        return failed
    if details and None not in fields and error.code == ValidationFailed.code:
        # The message names the fields, so it is written again.
        return invalid_fields(
            [(str(detail["field"]), str(detail["message"])) for detail in details]
        )
    error.details = details
    return error


def _with_rest_names(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert the fields that a detail names, and those in the error of an item."""
    if "field" in detail:
        return {**detail, "field": rest_name(str(detail["field"]))}
    if "details" not in detail.get("error", ()):
        return detail
    details = [_with_rest_names(each) for each in detail["error"]["details"]]
    return {**detail, "error": {**detail["error"], "details": details}}
