"""Settings of a process, read from the environment.

Each field is an environment variable: its name in capitals with the prefix `INVENTORY_`, except
`DATABASE_URL`. `docs/settings.md` lists all settings.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///./inventory.db"


class Settings(BaseSettings):
    """Settings for operators; immutable."""

    model_config = SettingsConfigDict(
        env_prefix="INVENTORY_",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        # A database address may contain a password.
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        default=DEFAULT_DATABASE_URL,
        validation_alias="DATABASE_URL",
        pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://",
        description="The address of the database: `sqlite+aiosqlite:///..` or `postgresql+asyncpg://..`.",
    )
    database_pool_size: int = Field(
        default=10,
        ge=1,
        description="The maximum number of connections per worker. SQLite has one more, for "
        "writes. A single active tenant gets at most six of ten.",
    )
    database_pool_timeout_seconds: float = Field(
        default=2.0, gt=0, description="The maximum wait of a request for a connection, before 503."
    )
    database_lock_timeout_ms: int = Field(
        default=2_000,
        ge=1,
        description="The maximum wait of a write for a lock, before 503, or 409 for a write with "
        "an idempotency key on PostgreSQL.",
    )
    database_statement_timeout_ms: int = Field(
        default=5_000, ge=1, description="The maximum time of a statement in PostgreSQL."
    )
    row_level_security: bool = Field(
        default=False,
        description="Whether row-level security of PostgreSQL also isolates tenants. It requires a "
        "role that does not own the tables (`inventory migrate --grant-to`).",
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        description="The maximum size of a request body, in bytes.",
    )
    max_query_tokens: int = Field(
        default=1_000, ge=100, description="The maximum size of a GraphQL document, in tokens."
    )
    max_query_depth: int = Field(
        default=32, ge=1, description="The maximum nesting depth of fields in a GraphQL document."
    )
    max_query_cost: int = Field(
        default=200_000,
        ge=1,
        description="The maximum number of values in the response to an operation, estimated from "
        "page sizes. Lists without a page size count as 5 items, and each item of a write's input "
        "counts as 150 values.",
    )
    max_answer_cost: int = Field(
        default=200_000,
        ge=1_000,
        description="The maximum work for the response to an operation, measured during execution, "
        "in units of about 2 microseconds of processor time (docs/query-cost.md).",
    )
    trusted_documents: Path | None = Field(
        default=None,
        description="A JSON file of registered GraphQL documents by id. If set, the service "
        "executes only these.",
    )
    introspection: bool = Field(
        default=True, description="Whether GraphQL clients can query the schema."
    )
    suggestions: bool = Field(
        default=True, description="Whether GraphQL errors suggest names from the schema."
    )
    graphiql: bool = Field(
        default=True, description="Whether `/graphql` serves GraphiQL to browsers."
    )
    token_cache_seconds: float = Field(
        default=10.0,
        ge=0,
        le=30,
        description="The time for which a worker caches a valid token. A revocation takes effect "
        "within this time.",
    )
    jwt_issuer: str | None = Field(
        default=None,
        description="The `iss` of an identity provider. Its JWTs are accepted in addition to API "
        "tokens. Requires the audience and the JWKS.",
    )
    jwt_audience: str | None = Field(default=None, description="The required `aud` of JWTs.")
    jwt_jwks: str | None = Field(
        default=None,
        description="The public keys of the identity provider (JWKS, at most 1 MiB): a file, or an "
        "`http` or `https` URL. Redirects are not followed.",
    )
    jwt_family: Literal["RS", "PS", "ES", "EdDSA"] = Field(
        default="RS", description="The accepted family of signature algorithms."
    )
    jwt_tenant_claim: str = Field(default="tenant", description="The claim with the tenant id.")
    jwt_scope_claim: str = Field(
        default="scope",
        description="The claim with the scopes: a text separated by spaces, or a list.",
    )
    jwt_email_claim: str = Field(
        default="email",
        description="The claim with the actor for the ledger. If it is missing or "
        "`email_verified` is false, the actor is `sub`.",
    )
    jwt_leeway_seconds: int = Field(
        default=10,
        ge=0,
        le=120,
        description="The accepted clock difference to the identity provider, in seconds.",
    )
    rate_limit: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d* ?(/|per) ?(second|minute|hour|day)$",
        description="The maximum request rate of a token, for example `600/minute`. Unset: no "
        "limit.",
    )
    rate_limit_redis_url: str | None = Field(
        default=None,
        pattern=r"^redis(s)?://",
        description="A Redis that stores the request rates for all workers. Unset: each worker "
        "counts separately. Requires `pip install 'inventory-api[redis]'`.",
    )
    body_timeout_seconds: float = Field(
        default=10.0, gt=0, description="The maximum time to receive the body of a request."
    )
    head_timeout_seconds: float = Field(
        default=10.0, gt=0, description="The maximum time to receive the headers of a request."
    )
    request_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="The maximum processing time of a request before 503. For a stream, it applies "
        "to each piece. The time of the client does not count.",
    )
    write_timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        description="The time after which a client that takes nothing of its response is "
        "disconnected.",
    )
    max_head_bytes: int = Field(
        default=32 * 1024,
        ge=1024,
        description="The maximum size of the request line and the headers, in bytes.",
    )
    max_connections: int = Field(
        default=5_000,
        ge=1,
        description="The maximum number of connections per worker. Further connections get 503.",
    )
    cors_origins: str | None = Field(
        default=None,
        description="Origins whose pages can call the service from a browser, separated by commas. "
        "Unset: none.",
    )
    cors_headers: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]+(\s*,\s*[A-Za-z0-9_-]+)*$",
        description="Further request headers that these pages can send, separated by commas. The "
        "service's own headers, `traceparent`, `tracestate`, `baggage` and those of Apollo Client "
        "are always accepted.",
    )
    trusted_hosts: str | None = Field(
        default=None,
        description="Accepted `Host` headers, separated by commas. Unset: any.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The minimum severity of log entries."
    )
    page_token: str | None = Field(
        default=None,
        description="A token for GraphiQL and the REST reference. All visitors of these pages see "
        "it, so it is only for demonstrations.",
    )

    @model_validator(mode="after")
    def _require_whole_jwt(self) -> Self:
        values = [self.jwt_issuer, self.jwt_audience, self.jwt_jwks]
        if any(values) and not all(values):
            message = "jwt_issuer, jwt_audience and jwt_jwks go together: set all three or none"
            raise ValueError(message)
        return self

    @property
    def page_authorization(self) -> str | None:
        """The Authorization header of the pages, from `page_token`."""
        return f"Bearer {self.page_token}" if self.page_token else None


def comma_separated(text: str | None) -> list[str]:
    """Split a text at commas; blank items are dropped."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]
