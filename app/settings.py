"""Settings of a process, read from the environment and from the file `.env`.

Each field is an environment variable: its name in capitals with the prefix `INVENTORY_`, except
`DATABASE_URL`. `docs/settings.md` lists all settings.
"""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, Self

from dotenv import dotenv_values
from pydantic import Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///./inventory.db"
SETTING_PREFIX: Final = "INVENTORY_"
FILE_SUFFIX: Final = "_FILE"
# Kubernetes sets these in every pod beside a Service with the name `inventory` or `inventory-..`.
SERVICE_LINK: Final = re.compile(
    r"INVENTORY_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)


class BadEnvironment(Exception):
    """A variable of the environment is unknown, or its file cannot be read."""


class Settings(BaseSettings):
    """Settings for operators; immutable."""

    model_config = SettingsConfigDict(
        env_prefix=SETTING_PREFIX,
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        # A database address may contain a password.
        hide_input_in_errors=True,
    )

    database_url: str = Field(
        default=DEFAULT_DATABASE_URL,
        validation_alias="DATABASE_URL",
        description="The address of the database: `sqlite:///FILE` or "
        "`postgresql://USER:PASSWORD@HOST:PORT/NAME` "
        "([details](operations.md#database-addresses)).",
    )
    read_database_url: str | None = Field(
        default=None,
        description="The address of a replica of the database, for reads that may be late "
        "([details](operations.md#read-replicas)).",
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
        "an idempotency key on PostgreSQL. It includes retries and the wait behind another write.",
    )
    database_statement_timeout_ms: int = Field(
        default=5_000,
        ge=1,
        description="The maximum time of a statement in PostgreSQL. A second later, a server that "
        "does not answer is given up.",
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
    trusted_documents_for: Literal["all", "availability"] = Field(
        default="all",
        description="The tokens that are bound to the registered documents: all, or those whose "
        "only scope is `inventory:availability`.",
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
    jwt_warehouses_claim: str = Field(
        default="inventory_warehouses",
        description="The claim with the ids of the warehouses that a token is bound to: a text "
        "separated by spaces, or a list. A token without the claim is for all warehouses.",
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
    changes_kept_days: int = Field(
        default=30,
        ge=1,
        le=3_650,
        description="The time for which the feed keeps a change, in days. A reader that is further "
        "behind gets CHANGES_GONE.",
    )
    webhooks_to_loopback: bool = Field(
        default=False,
        description="Whether webhooks may use `http` and loopback addresses, for development on "
        "one machine.",
    )
    stream_interval_seconds: float = Field(
        default=0.25,
        gt=0,
        le=5,
        description="The time between two reads of the feed for the open streams of a tenant. A "
        "worker reads it once for all streams of the tenant.",
    )
    stream_heartbeat_seconds: float = Field(
        default=15.0,
        gt=0,
        le=300,
        description="The longest silence of a stream, and the time between two checks of its "
        "token. It must be below the idle timeout of a proxy in front, which is often 60 s.",
    )
    max_streams_per_token: int = Field(
        default=100,
        ge=1,
        description="The maximum number of open streams of a token per worker. Further streams get "
        "429.",
    )
    max_streams: int = Field(
        default=4_000,
        ge=1,
        description="The maximum number of open streams per worker. Further streams get 503. It "
        "must be below the maximum number of connections.",
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
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        description="The time for which an idle connection stays open. It must exceed the idle "
        "timeout of a load balancer in front, which is often 60 s.",
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
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses and networks of the proxies whose `X-Forwarded-For` is trusted, "
        "separated by commas, or `*` for all. The log entries of requests have the address of the "
        "client. Unset: the address of the connection.",
    )
    metrics: bool = Field(
        default=False,
        description="Whether `/metrics` has metrics for Prometheus. It needs no credential "
        "([details](operations.md#metrics)).",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="A port for `/metrics` alone, on the address of the service. Unset: the port "
        "of the service.",
    )
    tracing: bool = Field(
        default=False,
        description="Whether spans are sent to the OpenTelemetry collector that the variables "
        "`OTEL_..` name. Requires `pip install 'inventory-api[opentelemetry]'`.",
    )
    slow_statement_ms: int | None = Field(
        default=1_000,
        ge=1,
        description="The time in milliseconds from which a statement is logged as slow.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The minimum severity of log entries."
    )
    page_token: str | None = Field(
        default=None,
        description="A token for GraphiQL and the REST reference. All visitors of these pages see "
        "it, so it is only for demonstrations.",
    )

    shop_token: str | None = Field(
        default=None,
        description="A token with the scope `inventory:availability` for the page `/shop`, which "
        "shows what is available. All visitors see it. Unset: no such page.",
    )

    @model_validator(mode="after")
    def _require_whole_jwt(self) -> Self:
        values = [self.jwt_issuer, self.jwt_audience, self.jwt_jwks]
        if any(values) and not all(values):
            message = "jwt_issuer, jwt_audience and jwt_jwks go together: set all three or none"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _require_metrics_with_port(self) -> Self:
        if self.metrics_port is not None and not self.metrics:
            message = "metrics_port needs metrics to be on"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _require_documents_for_tokens(self) -> Self:
        if self.trusted_documents_for != "all" and self.trusted_documents is None:
            message = "trusted_documents_for needs trusted_documents"
            raise ValueError(message)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment and its files."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, Environment(settings_cls)

    @property
    def page_authorization(self) -> str | None:
        """The Authorization header of the pages, from `page_token`."""
        return f"Bearer {self.page_token}" if self.page_token else None


class Environment(PydanticBaseSettingsSource):
    """Variables of the process and, for those it lacks, of the file `.env`.

    Instead of a value, `NAME_FILE` can name a file with the value.

    Raises:
        BadEnvironment: a variable with the prefix is unknown, or a file cannot be read.

    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> NoReturn:
        """Not used: `__call__` returns all values."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """Return the values by the alias or the name of their field."""
        try:
            in_file = dotenv_values(".env")
        except UnicodeError as error:
            message = "The file .env is not UTF-8."
            raise BadEnvironment(message) from error
        known = {variable_of(name): name for name in self.settings_cls.model_fields}
        # A variable of the process replaces both forms of the file.
        chosen: dict[str, tuple[str, str]] = {}
        for source in (in_file, os.environ):
            variables = {name.upper(): value for name, value in source.items() if value is not None}
            _require_known(variables, known)
            for variable in known:
                pointer = f"{variable}{FILE_SUFFIX}"
                if {variable, pointer} <= variables.keys():
                    message = f"{variable} and {pointer} are both set; unset one."
                    raise BadEnvironment(message)
                for name in (variable, pointer):
                    if name in variables:
                        chosen[variable] = (name, variables[name])
        result = {}
        for variable, (name, value) in chosen.items():
            field = known[variable]
            alias = str(self.settings_cls.model_fields[field].validation_alias or field)
            result[alias] = value if name == variable else _content(value, name)
        return result


def variable_of(field: str) -> str:
    """Return the environment variable of a field."""
    return str(Settings.model_fields[field].validation_alias or f"{SETTING_PREFIX}{field.upper()}")


def _require_known(variables: Iterable[str], known: Iterable[str]) -> None:
    names = {*known, *(f"{name}{FILE_SUFFIX}" for name in known)}
    for variable in sorted(variables):
        if (
            not variable.startswith(SETTING_PREFIX)
            or variable in names
            or SERVICE_LINK.fullmatch(variable)
        ):
            continue
        by_suffix = {name.removeprefix(SETTING_PREFIX): name for name in names}
        near = get_close_matches(variable.removeprefix(SETTING_PREFIX), by_suffix, n=1)
        advice = f"Did you mean {by_suffix[near[0]]}?" if near else "Unset it."
        message = f"{variable} is set, but there is no such setting. {advice}"
        raise BadEnvironment(message)


def _content(file: str, variable: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        message = f"{variable} names the file {file}, which cannot be read: {reason}."
        raise BadEnvironment(message) from error


def comma_separated(text: str | None) -> list[str]:
    """Split a text at commas; blank items are dropped."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]
