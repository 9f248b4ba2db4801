"""The settings of a process: read once from the environment, then frozen.

Every field is an environment variable of the same name in capitals, with the prefix `INVENTORY_`,
except `DATABASE_URL`. The README lists them all.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///./inventory.db"


class Settings(BaseSettings):
    """What an operator may choose."""

    model_config = SettingsConfigDict(
        env_prefix="INVENTORY_",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        # An address may hold a password.
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        default=DEFAULT_DATABASE_URL,
        validation_alias="DATABASE_URL",
        pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://",
        description="Where the data is: `sqlite+aiosqlite:///..` or `postgresql+asyncpg://..`.",
    )
    database_pool_size: int = Field(
        default=10,
        ge=1,
        description="Connections that a worker keeps open at most: so many that read or write "
        "by single statements, and as many for transactions that write. One tenant alone gets six "
        "of ten.",
    )
    database_pool_timeout_seconds: float = Field(
        default=2.0, gt=0, description="How long a request waits for a connection before 503."
    )
    database_lock_timeout_ms: int = Field(
        default=2_000, ge=1, description="How long a write waits for a lock before 503."
    )
    database_statement_timeout_ms: int = Field(
        default=5_000, ge=1, description="How long PostgreSQL may work on one statement."
    )
    row_level_security: bool = Field(
        default=False,
        description="Whether PostgreSQL keeps tenants apart too, as a second lock: for a role that "
        "does not own the tables (`inventory migrate --grant-to`).",
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, description="The longest request body that is read."
    )
    max_query_tokens: int = Field(
        default=1_000, ge=100, description="The longest GraphQL document, in tokens."
    )
    max_query_depth: int = Field(
        default=32, ge=1, description="How many fields deep a GraphQL document may be nested."
    )
    max_query_cost: int = Field(
        default=200_000,
        ge=1,
        description="How many values the answer to an operation may have at most: page sizes "
        "multiplied, lists without one counted as 5, and 150 for each item of a write's input.",
    )
    max_answer_cost: int = Field(
        default=200_000,
        ge=1_000,
        description="How much work the answer to an operation may take, counted while it is done, "
        "in units of about 2 microseconds of processor time "
        "([what costs how much](docs/query-cost.md)).",
    )
    trusted_documents: Path | None = Field(
        default=None,
        description="A JSON file of registered GraphQL documents, by id; with it, no others are "
        "served.",
    )
    introspection: bool = Field(
        default=True, description="Whether GraphQL clients may ask for the schema."
    )
    suggestions: bool = Field(
        default=True, description="Whether GraphQL errors suggest names of the schema."
    )
    graphiql: bool = Field(default=True, description="Whether browsers get GraphiQL.")
    token_cache_seconds: float = Field(
        default=10.0,
        ge=0,
        le=30,
        description="How long a worker trusts a token it has just checked; a revocation takes "
        "effect within this time.",
    )
    jwt_issuer: str | None = Field(
        default=None,
        description="The `iss` of an identity provider whose JWTs are accepted beside API "
        "tokens; needs the next two.",
    )
    jwt_audience: str | None = Field(default=None, description="The `aud` that its JWTs must have.")
    jwt_jwks: str | None = Field(
        default=None,
        description="Where its public keys are (JWKS, at most 1 MiB): a file, or an address of "
        "`http` or `https`, whose redirects are not followed.",
    )
    jwt_family: Literal["RS", "PS", "ES", "EdDSA"] = Field(
        default="RS", description="The one family of algorithms that its signatures may have."
    )
    jwt_tenant_claim: str = Field(
        default="tenant", description="The claim that holds the id of the tenant."
    )
    jwt_scope_claim: str = Field(
        default="scope", description="The claim that holds scopes: a text with spaces, or a list."
    )
    jwt_email_claim: str = Field(
        default="email",
        description="The claim that the ledger names; `sub` where it is missing, "
        "or `email_verified` is false.",
    )
    jwt_leeway_seconds: int = Field(
        default=10, ge=0, le=120, description="How far the clocks may be apart."
    )
    rate_limit: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d* ?(/|per) ?(second|minute|hour|day)$",
        description="How many requests one token may send, for example `600/minute`; any number "
        "without it.",
    )
    rate_limit_redis_url: str | None = Field(
        default=None,
        pattern=r"^redis(s)?://",
        description="A Redis in which all workers count together; without it each counts by "
        "itself. Needs `pip install 'inventory-api[redis]'`.",
    )
    body_timeout_seconds: float = Field(
        default=10.0, gt=0, description="How long a request's body may take to arrive."
    )
    head_timeout_seconds: float = Field(
        default=10.0, gt=0, description="How long a request's headers may take to arrive."
    )
    request_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="How long the service may work on a request before 503: to the first piece of "
        "a stream, and from one piece to the next. The time that the client takes does not count.",
    )
    write_timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        description="How long a client may take nothing of an answer before it is disconnected.",
    )
    max_head_bytes: int = Field(
        default=32 * 1024, ge=1024, description="The longest request line with its headers."
    )
    max_connections: int = Field(
        default=5_000,
        ge=1,
        description="Connections that a worker serves; the others are answered 503.",
    )
    cors_origins: str | None = Field(
        default=None,
        description="Origins, separated by commas, whose pages may call the service from a "
        "browser; none without it.",
    )
    trusted_hosts: str | None = Field(
        default=None,
        description="Names, separated by commas, that a `Host` header may have; any without it.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log line that is written."
    )
    page_token: str | None = Field(
        default=None,
        description="A token that GraphiQL and the REST reference come filled in with. It is "
        "shown to everyone who opens them: for demonstrations only.",
    )

    @model_validator(mode="after")
    def _jwt_is_whole(self) -> Self:
        given = [self.jwt_issuer, self.jwt_audience, self.jwt_jwks]
        if any(given) and not all(given):
            message = "jwt_issuer, jwt_audience and jwt_jwks go together: give all three or none"
            raise ValueError(message)
        return self

    @property
    def page_authorization(self) -> str | None:
        """The Authorization header that the pages come filled in with."""
        return f"Bearer {self.page_token}" if self.page_token else None


def words(text: str | None) -> list[str]:
    """Return what is separated by commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
