"""The composition root: settings -> Starlette application."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from app.auth.tokens import Authenticator
from app.database.engine import Database
from app.database.migration import require_current, require_matching_role
from app.errors import InventoryError, Unavailable
from app.graphql.documents import DocumentRules, Documents
from app.graphql.endpoint import GraphQLEndpoint
from app.graphql.trusted_documents import TrustedDocuments
from app.http.edge import HttpEdge, Service
from app.http.errors import GRAPHQL_PATH
from app.http.json import JSONResponse
from app.http.logs import configure_logs
from app.http.request_id import REQUEST_ID_HEADER
from app.maintenance import keep_up, note_used
from app.settings import Settings, comma_separated
from app.web.pages import docs_page, graphiql_tabs, static_routes
from rest_shim.endpoint import Shim
from rest_shim.openapi import openapi

if TYPE_CHECKING:
    from app.auth.jwt import IdentityProvider
    from app.auth.rate_limits import Rates

# Shorter than the patience of those who ask whether the service is ready.
READY_SECONDS: Final = 2
CORS_REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    REQUEST_ID_HEADER,
)
CORS_RESPONSE_HEADERS: Final = ("ETag", "Idempotent-Replayed", "Retry-After", REQUEST_ID_HEADER)


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the service as an ASGI application."""
    settings = settings or Settings()
    configure_logs(settings.log_level)
    database = Database(settings)
    rates = _rates(settings)
    authenticator = Authenticator(
        database,
        cache_seconds=settings.token_cache_seconds,
        provider=_provider(settings),
        rates=rates,
    )
    documents = Documents(kept=settings.prepared_documents, rules=DocumentRules.of(settings))
    trusted = (
        TrustedDocuments.read(settings.trusted_documents) if settings.trusted_documents else None
    )
    door = GraphQLEndpoint(
        settings=settings,
        database=database,
        authenticator=authenticator,
        documents=documents,
        trusted=trusted,
        tabs=graphiql_tabs(),
    )
    shim = Shim(settings=settings, database=database, authenticator=authenticator)

    async def index(_request: Request) -> Response:
        return RedirectResponse(GRAPHQL_PATH if settings.graphiql else "/docs")

    async def docs(_request: Request) -> Response:
        return docs_page(authorization=settings.page_authorization)

    # Not a coroutine, so that the first request loads the YAML file in a thread.
    def openapi_document(_request: Request) -> Response:
        return JSONResponse(openapi())

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await require_current(database)
                await require_matching_role(database)
                await database.require_writable()
        except TimeoutError as error:
            message = f"The database did not answer within {READY_SECONDS} s."
            raise Unavailable(message) from error
        return PlainTextResponse("ready\n")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # What start-up made is there for good: the garbage collector need not look at it again,
        # and a page of a list makes thousands of objects that are soon gone by themselves.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        upkeep = asyncio.create_task(
            keep_up(database, authenticator, seconds=settings.request_timeout_seconds)
        )
        yield
        upkeep.cancel()
        with suppress(InventoryError):
            await note_used(database, authenticator)
        if rates is not None:
            await rates.close()
        await database.dispose()

    app = Service(
        routes=[
            Route(GRAPHQL_PATH, door),
            *shim.routes(),
            Route("/", index),
            Route("/docs", docs),
            Route("/api/openapi.json", openapi_document),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *static_routes(),
        ],
        middleware=[
            *_cross_origin(settings),
            Middleware(
                HttpEdge,
                seconds=settings.request_timeout_seconds,
                trusted_hosts=frozenset(comma_separated(settings.trusted_hosts)),
            ),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.database = database
    return app


def _provider(settings: Settings) -> "IdentityProvider | None":
    if not settings.jwt_issuer:
        return None
    # Who trusts no identity provider does not wait for cryptography.
    from app.auth.jwt import IdentityProvider  # noqa: PLC0415

    return IdentityProvider(settings)


def _rates(settings: Settings) -> "Rates | None":
    if not settings.rate_limit:
        return None
    # Nor who limits no rates for what counts them.
    from app.auth.rate_limits import Rates  # noqa: PLC0415

    return Rates(settings)


def _cross_origin(settings: Settings) -> list[Middleware]:
    """Return what lets pages of other origins call the service, if any may."""
    origins = comma_separated(settings.cors_origins)
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT"],
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_RESPONSE_HEADERS,
        )
    ]
