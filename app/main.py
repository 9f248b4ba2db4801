"""The composition root: settings -> objects -> routes -> Starlette application."""

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn

from prometheus_client import CONTENT_TYPE_LATEST
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
from app.http.event_stream import LAST_EVENT_ID, STREAMS_STATE
from app.http.json import JSONResponse
from app.http.logs import configure_logs
from app.http.request_id import REQUEST_ID_HEADER
from app.live.streams import Streams
from app.maintenance import record_token_uses, run_jobs
from app.runtime.metrics import (
    CACHED,
    CACHED_DOCUMENT_BYTES,
    CONNECTIONS_AWAITED,
    CONNECTIONS_IN_USE,
    OPEN_STREAMS,
    WAITING_WRITES,
    metrics_page,
    record_requests,
)
from app.runtime.observation import log_slow_statements, start_tracing
from app.runtime.positions import POSITION_HEADER
from app.runtime.response_headers import RATE_LIMIT_HEADER, RATE_LIMIT_POLICY_HEADER
from app.settings import Settings, comma_separated
from app.web.pages import (
    accepted_encodings,
    docs_page,
    graphiql_page,
    graphiql_tabs,
    live_page,
    shop_page,
    static_routes,
)
from rest_shim.endpoint import Shim
from rest_shim.openapi import openapi, openapi_for_gateways

if TYPE_CHECKING:
    from app.auth.jwt import IdentityProvider
    from app.auth.rate_limits import RateLimiter

# Shorter than the usual timeouts of readiness probes.
READY_SECONDS: Final = 2
METRICS_SECONDS: Final = 1
# A browser repeats no preflight request in this time; Chromium keeps none longer.
CORS_SECONDS: Final = 7_200
CORS_REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    LAST_EVENT_ID,
    POSITION_HEADER,
    REQUEST_ID_HEADER,
    # Tracing: W3C Trace Context and Baggage.
    "traceparent",
    "tracestate",
    "baggage",
    # Apollo Client, and its libraries for iOS and Kotlin.
    "Apollo-Require-Preflight",
    "apollographql-client-name",
    "apollographql-client-version",
    "X-Apollo-Operation-Id",
    "X-Apollo-Operation-Name",
    "X-Apollo-Operation-Type",
)
CORS_RESPONSE_HEADERS: Final = (
    "ETag",
    "Idempotent-Replayed",
    "Location",
    POSITION_HEADER,
    RATE_LIMIT_HEADER,
    RATE_LIMIT_POLICY_HEADER,
    "Retry-After",
    REQUEST_ID_HEADER,
)


def create_app(settings: Settings | None = None, *, columnar: bool = True) -> Starlette:
    """Build the ASGI application; settings come from the environment by default.

    Without `columnar`, graphql-core completes lists.
    """
    settings = settings or Settings()
    configure_logs(settings.log_level)
    log_slow_statements(settings.slow_statement_ms)
    stop_tracing = start_tracing() if settings.tracing else None
    database = Database(settings)
    rate_limiter = _rate_limiter(settings)
    authenticator = Authenticator(
        database,
        cache_seconds=settings.token_cache_seconds,
        provider=_identity_provider(settings),
        rate_limiter=rate_limiter,
    )
    documents = Documents(DocumentRules.of(settings))
    streams = Streams(settings, database, authenticator)
    graphql = GraphQLEndpoint(
        settings=settings,
        database=database,
        authenticator=authenticator,
        documents=documents,
        streams=streams,
        trusted=_trusted_documents(settings),
        page=_graphiql(settings),
        columnar=columnar,
    )
    shim = Shim(
        settings=settings,
        database=database,
        authenticator=authenticator,
        streams=streams,
        columnar=columnar,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, object]]:
        _tune_garbage_collector()
        metrics = asyncio.create_task(_record_metrics(database, authenticator, documents, streams))
        maintenance = asyncio.create_task(
            run_jobs(database, authenticator, seconds=settings.request_timeout_seconds)
        )
        yield {STREAMS_STATE: streams}
        await streams.aclose()
        metrics.cancel()
        record_requests()
        maintenance.cancel()
        with suppress(InventoryError):
            await record_token_uses(database, authenticator)
        if rate_limiter is not None:
            await rate_limiter.close()
        await database.dispose()
        if stop_tracing is not None:
            stop_tracing()

    app = Service(
        routes=[
            Route(GRAPHQL_PATH, graphql),
            *shim.routes(),
            *_page_routes(settings),
            *_health_routes(database),
            *_metrics_routes(settings),
            *static_routes(),
        ],
        middleware=[
            *_cors_middleware(settings),
            Middleware(
                HttpEdge,
                seconds=settings.request_timeout_seconds,
                trusted_hosts=frozenset(comma_separated(settings.trusted_hosts)),
                has_metrics=settings.metrics,
            ),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.database = database
    return app


def _rate_limiter(settings: Settings) -> "RateLimiter | None":
    if not settings.rate_limit:
        return None
    # Imported on demand: only rate limits need the library `limits`.
    from app.auth.rate_limits import RateLimiter  # noqa: PLC0415

    return RateLimiter(settings.rate_limit, redis_url=settings.rate_limit_redis_url)


def _identity_provider(settings: Settings) -> "IdentityProvider | None":
    if not settings.jwt_issuer:
        return None
    # Imported on demand: cryptography is slow to import and only JWTs need it.
    from app.auth.jwt import IdentityProvider  # noqa: PLC0415

    return IdentityProvider(settings)


def _trusted_documents(settings: Settings) -> TrustedDocuments | None:
    path = settings.trusted_documents
    return TrustedDocuments.read(path) if path else None


def _graphiql(settings: Settings) -> Callable[[], Response] | None:
    """Build the page for browsers at the GraphQL path, if it is on."""
    if not settings.graphiql:
        return None
    tabs = graphiql_tabs()
    return lambda: graphiql_page(authorization=settings.page_authorization, tabs=tabs)


def _tune_garbage_collector() -> None:
    """Exempt the objects of start-up, and collect less often: a list page makes thousands."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _page_routes(settings: Settings) -> list[Route]:
    """Routes of the start page, the REST reference and the OpenAPI document."""

    async def index(_request: Request) -> Response:
        # Relative, because a proxy may publish the service at a path prefix.
        return RedirectResponse("graphql" if settings.graphiql else "docs")

    async def docs(_request: Request) -> Response:
        return docs_page(authorization=settings.page_authorization)

    async def live(_request: Request) -> Response:
        return live_page(authorization=settings.page_authorization or "")

    async def shop(_request: Request) -> Response:
        return shop_page(authorization=f"Bearer {settings.shop_token}")

    # Not coroutines: the first request renders the document in a thread.
    def openapi_document(request: Request) -> Response:
        return _described(openapi, request)

    def openapi_30_document(request: Request) -> Response:
        return _described(openapi_for_gateways, request)

    return [
        Route("/", index),
        Route("/docs", docs),
        # The page is part of the demo: it needs a token.
        *([Route("/live", live)] if settings.page_token else []),
        *([Route("/shop", shop)] if settings.shop_token else []),
        Route("/api/openapi.json", openapi_document),
        Route("/api/openapi-3.0.json", openapi_30_document),
    ]


def _described(load: Callable[[], Mapping[str, object]], request: Request) -> Response:
    """Send an OpenAPI document, compressed if the client accepts it."""
    plain, compressed = _rendered(load, request.scope.get("root_path") or "/")
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" not in accepted_encodings(request.headers.get("accept-encoding", "")):
        return Response(plain, headers=headers, media_type="application/json")
    headers["Content-Encoding"] = "gzip"
    return Response(compressed, headers=headers, media_type="application/json")


@lru_cache(maxsize=4)
def _rendered(load: Callable[[], Mapping[str, object]], url: str) -> tuple[bytes, bytes]:
    """Render an OpenAPI document for a server at a path, plain and compressed."""
    servers = [{"url": url, "description": "This service."}]
    content = bytes(JSONResponse({**load(), "servers": servers}).body)
    return content, gzip.compress(content, mtime=0)


def _health_routes(database: Database) -> list[Route]:
    """Routes of the liveness and the readiness probe."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await require_current(database)
                await require_matching_role(database)
                await database.require_writable()
        except TimeoutError as error:
            message = f"The database did not respond within {READY_SECONDS} s."
            raise Unavailable(message) from error
        return PlainTextResponse("ready\n")

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _metrics_routes(settings: Settings) -> list[Route]:
    """Route of the metrics, unless they are off or have a port of their own."""
    if not settings.metrics or settings.metrics_port is not None:
        return []

    # Not a coroutine: it runs in a thread.
    def metrics(_request: Request) -> Response:
        return Response(metrics_page(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/metrics", metrics)]


async def _record_metrics(
    database: Database, authenticator: Authenticator, documents: Documents, streams: Streams
) -> NoReturn:
    """Record every second the requests, and the sizes of pools, queues and caches."""
    while True:
        record_requests()
        CONNECTIONS_IN_USE.set(database.connections_in_use)
        CONNECTIONS_AWAITED.set(database.connections_awaited)
        WAITING_WRITES.set(database.lanes.waiting)
        OPEN_STREAMS.set(len(streams))
        CACHED.labels("tokens").set(authenticator.cached_tokens)
        CACHED.labels("documents").set(len(documents))
        CACHED_DOCUMENT_BYTES.set(documents.bytes)
        await asyncio.sleep(METRICS_SECONDS)


def _cors_middleware(settings: Settings) -> list[Middleware]:
    """Middleware that allows the configured origins to call the service from a browser."""
    origins = comma_separated(settings.cors_origins)
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT"],
            allow_headers=[*CORS_REQUEST_HEADERS, *comma_separated(settings.cors_headers)],
            expose_headers=CORS_RESPONSE_HEADERS,
            max_age=CORS_SECONDS,
        )
    ]
