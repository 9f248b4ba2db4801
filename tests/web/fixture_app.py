"""A service as small as the pages allow: one GraphQL field, one REST operation, both pages."""

import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.pages import Tab, docs_page, graphiql_page, static_routes

AUTHORIZATION = "Bearer demo-token"

TABS = (
    Tab(
        query="query Stock($sku: String!) {\n  stock(sku: $sku)\n}",
        variables={"sku": "SKU-001"},
    ),
    Tab(query="query Health {\n  __typename\n}"),
)

OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "Inventory API", "version": "1.0.0"},
    "security": [{"bearer": []}],
    "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    "paths": {
        "/api/inventory/{sku}": {
            "get": {
                "operationId": "getInventory",
                "summary": "Get inventory for a SKU",
                "parameters": [
                    {
                        "name": "sku",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string"},
                        "example": "SKU-001",
                    },
                ],
                "responses": {"200": {"description": "The inventory record"}},
            },
        },
    },
}


@strawberry.type
class Query:
    """The root of the reads."""

    @strawberry.field
    def stock(self, sku: str) -> str:
        """Tell what there is of a SKU."""
        return f"487 of {sku}"


schema = strawberry.Schema(Query)


async def graphql(request: Request) -> Response:
    """Answer a browser with GraphiQL and everyone else with data."""
    if request.method == "GET":
        return graphiql_page(authorization=AUTHORIZATION, tabs=TABS)
    if request.headers.get("authorization") != AUTHORIZATION:
        return JSONResponse({"errors": [{"message": "no token"}]}, status_code=401)
    body = await request.json()
    result = await schema.execute(
        body["query"],
        variable_values=body.get("variables"),
        operation_name=body.get("operationName"),
    )
    return JSONResponse({"data": result.data})


async def docs(_request: Request) -> Response:
    """Answer with the REST reference."""
    return docs_page(authorization=AUTHORIZATION)


async def openapi(_request: Request) -> Response:
    """Answer with the OpenAPI document."""
    return JSONResponse(OPENAPI)


async def inventory(request: Request) -> Response:
    """Answer as the one operation does."""
    if request.headers.get("authorization") != AUTHORIZATION:
        return JSONResponse({"error": "no token"}, status_code=401)
    return JSONResponse({"sku": request.path_params["sku"], "total_on_hand": 487})


async def graphql_without_token(_request: Request) -> Response:
    """Answer as a service that is no demo."""
    return graphiql_page(tabs=TABS)


app = Starlette(
    routes=[
        Route("/graphql", graphql, methods=["GET", "POST"]),
        Route("/graphql-without-token", graphql_without_token),
        Route("/docs", docs),
        Route("/api/openapi.json", openapi),
        Route("/api/inventory/{sku:path}", inventory),
        *static_routes(),
    ],
)
