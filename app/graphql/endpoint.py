"""GraphQL over HTTP, as its specification defines it, and a page for browsers."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from graphql import ExecutionResult, GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.domain.caller import Principal
from app.domain.caller import Scope as TokenScope
from app.errors import (
    ChangesGone,
    DocumentNotTrusted,
    InsufficientScope,
    InventoryError,
    MalformedRequest,
    MethodNotAllowed,
    PersistedQueryNotFound,
    PersistedQueryNotSupported,
    ValidationFailed,
    WarehouseNotFound,
)
from app.graphql.documents import Documents, Operation, refusal_of, run
from app.graphql.subscriptions import open_subscription, subscriber_of
from app.graphql.trusted_documents import TrustedDocuments, is_probe, persisted_query_error
from app.http.errors import GRAPHQL_PATH, error_facts, error_response, graphql_error
from app.http.event_stream import (
    EVENT_HEADERS,
    EVENT_STREAM,
    EventStream,
    accepts_events,
    accepts_only_events,
    event_bytes,
)
from app.http.json import JSONResponse, parse_json, read_json, to_json
from app.live.streams import Streams, event_chunks
from app.runtime.observation import operation_span
from app.runtime.request_facts import current_request_facts
from app.settings import Settings

# The last event of a GraphQL operation.
COMPLETE: Final = event_bytes(name="complete")
RESPONSE_TYPE: Final = "application/graphql-response+json"
NO_QUERY: Final = 'Send a JSON object: {"query": "..", "variables": {..}}.'
PARAMETERS: Final = {
    "query": str,
    "documentId": str | None,
    "operationName": str | None,
    "variables": dict | None,
    "extensions": dict | None,
}


class GraphQLEndpoint:
    """The ASGI application for GraphQL requests."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        authenticator: Authenticator,
        documents: Documents,
        streams: Streams,
        trusted: TrustedDocuments | None,
        page: Callable[[], Response] | None,
        columnar: bool = True,
    ) -> None:
        self._settings = settings
        self._database = database
        self._authenticator = authenticator
        self._documents = documents
        self._streams = streams
        self._trusted = trusted
        self._page = page
        self._columnar = columnar

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the page to a browser, if there is a page, and with data to a client."""
        request = Request(scope, receive)
        if request.method not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed("GET, POST")
        if self._page is not None and _is_browser(request):
            response = self._page()
        else:
            response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        principal = await self._authenticator.authenticate(request.headers.get("authorization"))
        trusted = self._trusted_for(principal)
        parameters = await self._parameters(request, trusted)
        has_response_type = RESPONSE_TYPE in request.headers.get("accept", "")
        is_event_client = accepts_only_events(request)
        try:
            # Clients send an empty name if they have none.
            operation = self._documents.operation(
                _text_of(parameters, trusted), parameters.get("operationName") or None
            )
            facts = current_request_facts.get()
            if facts is not None:
                facts.operation, facts.root_field = operation.name, operation.root_field
            _refuse_writing_get(request, operation)
            cost = operation.costs.cost(parameters.get("variables") or {})
            self._documents.limits.check("cost", cost)
            if operation.is_subscription and accepts_events(request):
                is_event_client = True
                return await self._subscribe(operation, parameters, principal, request)
            with operation_span(operation.root_field):
                result = await run(
                    operation,
                    parameters.get("variables") or {},
                    principal,
                    self._database,
                    limit=self._settings.max_answer_cost,
                    columnar=self._columnar,
                )
        except (
            ChangesGone,
            DocumentNotTrusted,
            InsufficientScope,
            MalformedRequest,
            PersistedQueryNotFound,
            PersistedQueryNotSupported,
            ValidationFailed,
            WarehouseNotFound,
        ) as error:
            if is_event_client:
                _note(error)
                return _single_result(_error_body(error))
            return _request_error(error, has_response_type=has_response_type)
        body = rendered(result)
        if (parameters.get("extensions") or {}).get("cost") is True:
            limit = self._documents.limits.cost
            body["extensions"] = {"cost": {"most": cost, "limit": limit}}
        if is_event_client:
            return _single_result(body)
        return JSONResponse(
            body, media_type=RESPONSE_TYPE if has_response_type else JSONResponse.media_type
        )

    async def _subscribe(
        self,
        operation: Operation,
        parameters: Mapping[str, Any],
        principal: Principal,
        request: Request,
    ) -> Response:
        """Open a subscription, and respond with its events."""
        with operation_span(operation.root_field):
            subscription = await open_subscription(
                operation,
                parameters.get("variables") or {},
                self._database,
                subscriber=subscriber_of(self._streams, principal, request),
                limit=self._settings.max_answer_cost,
            )
        stream = subscription.stream
        chunks = event_chunks(
            stream,
            render=subscription.renderer(_rendered_next),
            heartbeat=_heartbeat,
            end=_rendered_end,
        )
        return EventStream(chunks, stream.close)

    def _trusted_for(self, principal: Principal) -> TrustedDocuments | None:
        """Return the registered documents if the principal is bound to them."""
        is_for_all = self._settings.trusted_documents_for == "all"
        is_bound = is_for_all or principal.scopes <= {TokenScope.AVAILABILITY}
        return self._trusted if is_bound else None

    async def _parameters(
        self, request: Request, trusted: TrustedDocuments | None
    ) -> dict[str, Any]:
        if request.method == "POST":
            parameters = await read_json(request, self._settings)
        else:
            parameters = _query_parameters(request)
        if not isinstance(parameters, dict):
            raise MalformedRequest(NO_QUERY)
        for name, type_ in PARAMETERS.items():
            if name in parameters and not isinstance(parameters[name], type_):
                message = f"`{name}` has the wrong type."
                raise MalformedRequest(message, details=[{"field": name}])
        if not (trusted or "query" in parameters or is_probe(parameters)):
            raise MalformedRequest(NO_QUERY)
        return parameters


def _text_of(parameters: Mapping[str, Any], trusted: TrustedDocuments | None) -> str:
    if trusted is not None:
        return trusted.text(parameters)
    if is_probe(parameters):
        raise persisted_query_error(PersistedQueryNotSupported)
    text: str = parameters["query"]
    return text


def rendered(result: ExecutionResult) -> dict[str, object]:
    """JSON of a result. Its errors have the same members as in REST."""
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_rendered_error(error) for error in result.errors]}


def _rendered_next(position: int | None, result: ExecutionResult) -> bytes:
    return event_bytes(to_json(rendered(result)), name="next", position=position)


def _heartbeat(_position: int) -> bytes:
    # A comment. Clients of GraphQL over SSE expect nothing else between the events.
    return b":\n"


def _rendered_end(error: InventoryError) -> bytes:
    return event_bytes(to_json(_error_body(error)), name="next") + COMPLETE


def _single_result(body: object) -> Response:
    """Respond with one result by server-sent events."""
    content = event_bytes(to_json(body), name="next") + COMPLETE
    return Response(content, headers=EVENT_HEADERS, media_type=EVENT_STREAM)


def _error_body(error: InventoryError) -> dict[str, object]:
    return {"errors": [graphql_error(error)]}


def _rendered_error(error: GraphQLError) -> dict[str, object]:
    refusal = refusal_of(error)
    _note(refusal)
    facts = error_facts(refusal)
    members: dict[str, object] = {"message": facts.pop("message")}
    if error.locations:
        members["locations"] = [location.formatted for location in error.locations]
    if error.path is not None:
        members["path"] = error.path
    if refusal.replayed:
        facts["replayed"] = True
    return {**members, "extensions": {"code": refusal.code, "status": refusal.status, **facts}}


def _request_error(error: InventoryError, *, has_response_type: bool) -> Response:
    """Response to a request whose operation was not executed.

    The status is that of the error if the client accepts `application/graphql-response+json`. The
    specification requires 200 for plain JSON, because intermediaries may send other statuses.
    """
    _note(error)
    response = error_response(error, path=GRAPHQL_PATH)
    if has_response_type:
        response.headers["Content-Type"] = RESPONSE_TYPE
    else:
        response.status_code = 200
    return response


def _note(error: InventoryError) -> None:
    if (facts := current_request_facts.get()) is not None:
        facts.note_error(error)


def _is_browser(request: Request) -> bool:
    return request.method != "POST" and "text/html" in request.headers.get("accept", "")


def _refuse_writing_get(request: Request, operation: Operation) -> None:
    if request.method != "POST" and operation.is_mutation:
        raise MethodNotAllowed("POST")


def _query_parameters(request: Request) -> Mapping[str, Any]:
    parameters: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if parameters.get(name):
            parameters[name] = parse_json(parameters[name].encode())
        else:
            parameters.pop(name, None)
    return parameters
