"""The command `inventory`."""

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import orjson
import structlog
import typer
import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from app.auth import Scope
from app.commands import tenants
from app.database import Database
from app.demo import NotADemoDatabase, prepare_demo
from app.errors import InventoryError, Unavailable
from app.graphql.schema import schema
from app.graphql.trusted import BadManifest
from app.logs import configure_logs
from app.main import create_app
from app.migrations import NotCurrent, migrate, require_current
from app.models import as_text
from app.protocol import BoundedProtocol
from app.queries import list_tenants, list_tokens
from app.settings import Settings
from app.verify import LedgerBroken, verify_tenant

log = structlog.get_logger()

Result = TypeVar("Result")

HOST: Final = "127.0.0.1"
GRACE_SECONDS: Final = 10
DEMO: Final = """\
The demo is ready: 1,248 SKUs in two warehouses, fresh data, gone when you stop it (Ctrl+C).

  GraphiQL        {base}/graphql
  REST reference  {base}/docs
  Tokens          demo-read, demo-write, demo-admin

  curl -H 'Authorization: Bearer demo-read' {base}/api/inventory/SKU-001

  curl {base}/graphql \\
    -H 'Authorization: Bearer demo-read' -H 'Content-Type: application/json' \\
    -d '{{"query": "{{ skus(first: 3) {{ totalCount nodes {{ sku status totalAvailable }} }} }}"}}'
"""

app = typer.Typer(
    help="The inventory service: stock levels across warehouses, by GraphQL and REST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenant_app = typer.Typer(help="Tenants: the customers of the service.", no_args_is_help=True)
token_app = typer.Typer(help="API tokens of a tenant.", no_args_is_help=True)
app.add_typer(tenant_app, name="tenant")
app.add_typer(token_app, name="token")

TenantArgument = Annotated[str, typer.Argument(help="The id of a tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PortOption = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on.")]


def main() -> None:
    """Run the command; what is refused is one line and a non-zero exit."""
    try:
        app()
    except ValidationError as error:
        _fail("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
    except InventoryError as error:
        _fail(error.message)
    except DBAPIError as error:
        _fail(f"the database refuses: {error.orig}")
    except (BadManifest, LedgerBroken, NotADemoDatabase) as error:
        _fail(str(error))


@app.command()
def demo(
    port: PortOption = 8000,
    database_url: Annotated[
        str | None,
        typer.Option(help="An empty database, or an earlier demo's; by default a temporary file."),
    ] = None,
) -> None:
    """Start the service on this machine alone, with fresh example data and public tokens."""
    directory = Path(tempfile.mkdtemp(prefix="inventory-demo-"))
    # uvicorn raises the signal again when it is done, and the files shall go then too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        settings = Settings(
            database_url=database_url or f"sqlite+aiosqlite:///{directory}/demo.db",
            page_token="demo-write",  # noqa: S106 - public by design
            log_level="warning",
        )
        configure_logs(settings.log_level)
        _with_database(prepare_demo, settings)
        typer.echo(DEMO.format(base=f"http://{HOST}:{port}"))
        uvicorn.run(create_app(settings), host=HOST, port=port, **_server(settings))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = HOST,
    port: PortOption = 8000,
    workers: Annotated[int, typer.Option(min=1, help="How many processes answer.")] = 1,
) -> None:
    """Start the service on DATABASE_URL.

    A SQLite database is migrated first; a PostgreSQL one must be current (`inventory migrate`).
    """
    settings = Settings()
    configure_logs(settings.log_level)
    _with_database(_prepare, settings)
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        **_server(settings),
    )


def _server(settings: Settings) -> dict[str, Any]:
    """Return what uvicorn is told beside where to listen."""
    return {
        "http": BoundedProtocol,
        "ws": "none",
        "limit_concurrency": settings.max_connections,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }


@app.command("migrate")
def migrate_command() -> None:
    """Bring the database at DATABASE_URL to the schema of this version."""
    _with_database(migrate)
    typer.echo("The database is current.")


@app.command("schema")
def schema_command() -> None:
    """Print the GraphQL schema (SDL), as in schema.graphql."""
    typer.echo(schema.as_str())


@app.command()
def verify(
    tenant: Annotated[str | None, typer.Option(help="One tenant; all without it.")] = None,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Replay the ledger and derive every figure again; fail on the first break."""

    async def work(database: Database) -> list[dict[str, object]]:
        await require_current(database)
        async with database.snapshot() as snapshot:
            known = await list_tenants(snapshot)
        if tenant is not None and tenant not in known:
            raise tenants.tenant_not_found(tenant)
        proofs = []
        for tenant_id in [tenant] if tenant else known:
            proof = await verify_tenant(database, tenant_id, progress=_progress)
            _progress(None)
            proofs.append(asdict(proof))
            if not json:
                typer.echo(
                    f"{tenant_id}: {proof.skus:,} SKUs, {proof.stock_levels:,} stock levels, "
                    f"{proof.adjustments:,} adjustments, {proof.counts:,} counts. All add up."
                )
        return proofs

    proofs = _with_database(work)
    if json:
        _print_json(proofs)
    elif not proofs:
        typer.echo("There are no tenants.")


@tenant_app.command("create")
def tenant_create(
    tenant: Annotated[str, typer.Argument(help="Its id: 1 to 32 of a-z, 0-9 and _.")],
    name: Annotated[
        str | None, typer.Option(help="What people call it; the id if not said.")
    ] = None,
) -> None:
    """Create a tenant."""

    async def work(database: Database) -> None:
        await require_current(database)
        await tenants.create_tenant(database, tenant, name=name or tenant)

    _with_database(work)
    typer.echo(f"Created {tenant}. Next: inventory token create {tenant} --name .. --email ..")


@token_app.command("create")
def token_create(  # noqa: PLR0917 - options have names
    tenant: TenantArgument,
    name: Annotated[str, typer.Option(help="What it is for.")],
    email: Annotated[str, typer.Option(help="Who answers for it; the ledger names it.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="May be repeated; inventory:read if not said.")
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Never without it.")
    ] = None,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Create a token and print it, once: only its hash is kept."""

    async def work(database: Database) -> tenants.NewToken:
        await require_current(database)
        return await tenants.create_token(
            database,
            tenant,
            name=name,
            email=email,
            scopes=scope or [Scope.READ],
            expires_in=timedelta(days=expires_in_days) if expires_in_days else None,
        )

    _print_token(_with_database(work), json=json)


@token_app.command("list")
def token_list(
    tenant: TenantArgument,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the tokens of a tenant; what they read is not kept."""

    async def work(database: Database) -> list[dict[str, object]]:
        await require_current(database)
        async with database.snapshot() as snapshot:
            if tenant not in await list_tenants(snapshot):
                raise tenants.tenant_not_found(tenant)
            return await list_tokens(snapshot, tenant)

    tokens = _with_database(work)
    if json:
        _print_json(tokens)
        return
    for token in tokens:
        typer.echo("  ".join(f"{name}={value}" for name, value in token.items() if value))


@token_app.command("revoke")
def token_revoke(
    tenant: TenantArgument,
    token_id: Annotated[str, typer.Argument(help="The id that `token list` shows, tok_...")],
) -> None:
    """Revoke a token for good; workers forget it within INVENTORY_TOKEN_CACHE_SECONDS."""

    async def work(database: Database) -> None:
        await require_current(database)
        await tenants.revoke_token(database, tenant, token_id)

    _with_database(work)
    typer.echo(f"Revoked {token_id}.")


@token_app.command("rotate")
def token_rotate(
    tenant: TenantArgument,
    token_id: Annotated[str, typer.Argument(help="The id that `token list` shows, tok_...")],
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=24 * 90, help="How long the old one stays good.")
    ] = 24,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Make a token like another one and print it, once; the other one ends after an overlap."""

    async def work(database: Database) -> tenants.NewToken:
        await require_current(database)
        overlap = timedelta(hours=overlap_hours)
        return await tenants.rotate_token(database, tenant, token_id, overlap=overlap)

    _print_token(_with_database(work), json=json)


def _print_token(token: tenants.NewToken, *, json: bool) -> None:
    if json:
        expires_at = as_text(token.expires_at) if token.expires_at else None
        _print_json({"id": token.id, "token": token.token, "expires_at": expires_at})
    else:
        typer.echo(token.token)


async def _prepare(database: Database) -> None:
    """Make a database ready to serve."""
    if database.dialect == "sqlite":
        await migrate(database)
        return
    try:
        await require_current(database)
    except NotCurrent:
        raise
    except Unavailable as error:
        # It may come back while requests are answered with 503; /readyz asks again.
        log.warning("database_away", message=error.message)


def _with_database(
    work: Callable[[Database], Awaitable[Result]], settings: Settings | None = None
) -> Result:
    settings = settings or Settings()
    configure_logs(settings.log_level)

    async def whole() -> Result:
        database = Database(settings)
        try:
            return await work(database)
        finally:
            await database.dispose()

    return asyncio.run(whole())


def _progress(replayed: int | None) -> None:
    """Show on a terminal how far a replay is; None clears the line."""
    if sys.stderr.isatty():
        text = f"{replayed:,} adjustments replayed" if replayed is not None else " " * 40
        typer.echo(f"\r{text}\r", err=True, nl=False)


def _print_json(value: object) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _fail(message: str) -> NoReturn:
    typer.echo(f"inventory: {message}", err=True)
    sys.exit(1)
