"""GraphQL over HTTP, as the specification of that name has it, and GraphiQL for browsers."""

from collections.abc import Mapping
from typing import Any, Final

from graphql import ExecutionResult, GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.errors import (
    DocumentNotTrusted,
    InsufficientScope,
    InventoryError,
    MalformedRequest,
    MethodNotAllowed,
    ValidationFailed,
)
from app.graphql.documents import Documents, Operation, refusal_of, run
from app.graphql.trusted_documents import TrustedDocuments
from app.http.errors import GRAPHQL_PATH, error_facts, error_response
from app.http.json import JSONResponse, parse_json, read_json
from app.settings import Settings
from app.web.pages import Tab, graphiql_page

RESPONSE_TYPE: Final = "application/graphql-response+json"
PARAMETERS: Final = {
    "query": str,
    "documentId": str | None,
    "operationName": str | None,
    "variables": dict | None,
    "extensions": dict | None,
}


class GraphQLEndpoint:
    """The door of GraphQL clients, an ASGI application."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        authenticator: Authenticator,
        documents: Documents,
        trusted: TrustedDocuments | None,
        tabs: tuple[Tab, ...],
    ) -> None:
        self._settings = settings
        self._database = database
        self._authenticator = authenticator
        self._documents = documents
        self._trusted = trusted
        self._tabs = tabs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a browser with GraphiQL, and everyone else with data."""
        request = Request(scope, receive)
        if request.method not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed("GET, POST")
        if self._settings.graphiql and _is_browser(request):
            authorization = self._settings.page_authorization
            response = graphiql_page(authorization=authorization, tabs=self._tabs)
        else:
            response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        principal = await self._authenticator.authenticate(request.headers.get("authorization"))
        parameters = await self._parameters(request)
        precise = RESPONSE_TYPE in request.headers.get("accept", "")
        try:
            text = self._trusted.text(parameters) if self._trusted else parameters["query"]
            operation = self._documents.operation(text, parameters.get("operationName"))
            _refuse_writing_get(request, operation)
            cost = operation.costs.cost(parameters.get("variables") or {})
            self._documents.limits.check("cost", cost)
            result = await run(
                operation,
                parameters.get("variables") or {},
                principal,
                self._database,
                limit=self._settings.max_answer_cost,
                columnar=self._settings.bulk_completion,
            )
        except (
            DocumentNotTrusted,
            InsufficientScope,
            MalformedRequest,
            ValidationFailed,
        ) as error:
            return _request_error(error, precise=precise)
        answer = rendered(result)
        if (parameters.get("extensions") or {}).get("cost") is True:
            limit = self._documents.limits.cost
            answer["extensions"] = {"cost": {"most": cost, "limit": limit}}
        return JSONResponse(
            answer, media_type=RESPONSE_TYPE if precise else JSONResponse.media_type
        )

    async def _parameters(self, request: Request) -> dict[str, Any]:
        if request.method == "POST":
            parameters = await read_json(request, self._settings)
        else:
            parameters = _query_parameters(request)
        if not isinstance(parameters, dict) or not (self._trusted or "query" in parameters):
            message = 'Send a JSON object: {"query": "..", "variables": {..}}.'
            raise MalformedRequest(message)
        for name, type_ in PARAMETERS.items():
            if name in parameters and not isinstance(parameters[name], type_):
                message = f"`{name}` has the wrong type."
                raise MalformedRequest(message, details=[{"field": name}])
        return parameters


def rendered(result: ExecutionResult) -> dict[str, object]:
    """Return the JSON of an execution, each error with the facts that REST gives too."""
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_rendered_error(error) for error in result.errors]}


def _rendered_error(error: GraphQLError) -> dict[str, object]:
    refusal = refusal_of(error)
    facts = error_facts(refusal)
    shown: dict[str, object] = {"message": facts.pop("message")}
    if error.locations:
        shown["locations"] = [place.formatted for place in error.locations]
    if error.path is not None:
        shown["path"] = error.path
    if refusal.replayed:
        facts["replayed"] = True
    return {**shown, "extensions": {"code": refusal.code, "status": refusal.status, **facts}}


def _request_error(error: InventoryError, *, precise: bool) -> Response:
    """Return an error that kept an operation from running.

    A client that asks for `application/graphql-response+json` gets its status; to others the
    specification answers 200, because in plain JSON an intermediary may have said anything else.
    """
    response = error_response(error, path=GRAPHQL_PATH)
    if precise:
        response.headers["Content-Type"] = RESPONSE_TYPE
    else:
        response.status_code = 200
    return response


def _is_browser(request: Request) -> bool:
    return request.method != "POST" and "text/html" in request.headers.get("accept", "")


def _refuse_writing_get(request: Request, operation: Operation) -> None:
    if request.method != "POST" and operation.is_mutation:
        raise MethodNotAllowed("POST")


def _query_parameters(request: Request) -> Mapping[str, Any]:
    given: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if given.get(name):
            given[name] = parse_json(given[name].encode())
        else:
            given.pop(name, None)
    return given
