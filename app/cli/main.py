"""The command `inventory`."""

import asyncio
import csv
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NoReturn, TypeVar

import asyncpg
import orjson
import structlog
import typer
import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from app.database.engine import Database
from app.database.migration import (
    NotCurrent,
    WrongRole,
    grant,
    migrate,
    require_current,
    require_full_access,
    require_matching_role,
)
from app.demo import NotADemoDatabase, prepare_demo
from app.domain.caller import Scope
from app.domain.hash_chain import Head, parse_head
from app.domain.instants import format_instant
from app.errors import InventoryError, Unavailable
from app.files import imports as importing
from app.files.exports import ExportFilter, ExportSubject, export
from app.files.parsing import FileFormat, FileKind, Staging
from app.graphql.schema.schema import schema
from app.graphql.trusted_documents import BadManifest
from app.http.logs import configure_logs
from app.http.uvicorn_protocol import BoundedProtocol, Limits
from app.ledger.repair import repair_tenant
from app.ledger.verification import LedgerBroken, Proof, verify_ledger, verify_tenant
from app.main import create_app
from app.reads.tenants import list_tenants, list_tokens
from app.settings import Settings
from app.writes import tenants

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
TenantOption = Annotated[str, typer.Option(help="The tenant whose data it is.")]
FormatOption = Annotated[
    FileFormat | None, typer.Option("--format", help="By default what the file's name ends with.")
]
TenantArgument = Annotated[str, typer.Argument(help="The id of a tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PortOption = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on.")]


def main() -> None:
    """Run the command; what is refused is one line and a non-zero exit."""
    try:
        app()
    except ValidationError as error:
        _fail("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
    except Unavailable as error:
        _fail(f"{error.message} ({error.cause})" if error.cause else error.message)
    except InventoryError as error:
        _fail(error.message)
    except (DBAPIError, asyncpg.PostgresError, sqlite3.Error) as error:
        _fail(f"the database refuses: {getattr(error, 'orig', error)}")
    except OSError as error:
        _fail(f"{error.filename or 'the file'}: {error.strerror}")
    except (BadManifest, LedgerBroken, NotADemoDatabase, importing.FileRefused) as error:
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
        "app.__main__:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        **_server(settings),
    )


def _server(settings: Settings) -> dict[str, Any]:
    """Return what uvicorn is told beside where to listen."""
    return {
        "loop": "app.runtime.fair_loop:FairLoop",
        "http": partial(BoundedProtocol, limits=Limits.of(settings)),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }


@app.command("migrate")
def migrate_command(
    grant_to: Annotated[
        str | None,
        typer.Option(
            help="A role of PostgreSQL that is to serve without owning the tables, for "
            "INVENTORY_ROW_LEVEL_SECURITY."
        ),
    ] = None,
) -> None:
    """Bring the database at DATABASE_URL to the schema of this version."""

    async def work(database: Database) -> None:
        await migrate(database)
        if grant_to is not None:
            await grant(database, grant_to)

    _with_database(work)
    typer.echo("The database is current.")


@app.command("schema")
def schema_command() -> None:
    """Print the GraphQL schema (SDL), as in schema.graphql."""
    typer.echo(schema.as_str())


@app.command()
def verify(
    tenant: Annotated[str | None, typer.Option(help="One tenant; all without it.")] = None,
    repair: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--repair", help="First set right what is derived from the ledger.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(help="A head that was printed before: its history must be unchanged."),
    ] = None,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Replay the ledger and derive every figure again; fail on the first break.

    The head that is printed stands for the history of a tenant until five minutes ago. Keep it
    where nobody who can write to the database can change it: with --head, a history that differs
    by as much as a letter is refused, even if all hashes in the database were made anew.

    With --repair, figures that do not follow from the ledger are set right first, and named on
    standard error. The ledger itself is never changed: a break of it is refused.
    """
    kept = parse_head(head) if head is not None else None
    asked = kept.tenant_id if kept else tenant
    if tenant not in (None, asked):
        raise typer.BadParameter(f"--head is of the tenant {asked}, and not of {tenant}")

    async def work(database: Database) -> list[dict[str, object]]:
        await require_full_access(database)
        async with database.snapshot() as snapshot:
            known = await list_tenants(snapshot)
        if asked is not None and asked not in known:
            raise tenants.tenant_not_found(asked)
        proofs = []
        for tenant_id in [asked] if asked else known:
            if repair:
                await verify_ledger(database, tenant_id, head=kept, progress=_progress)
                _progress(None)
                for told in await repair_tenant(database, tenant_id):
                    typer.echo(f"{tenant_id}: repaired: {told}", err=True)
            proof = await verify_tenant(database, tenant_id, head=kept, progress=_progress)
            _progress(None)
            proofs.append(asdict(proof))
            if not json:
                _tell(proof, kept)
        return proofs

    proofs = _with_database(work)
    if json:
        _print_json(proofs)
    elif not proofs:
        typer.echo("There are no tenants.")


def _tell(proof: Proof, kept: Head | None) -> None:
    typer.echo(
        f"{proof.tenant}: {proof.skus:,} SKUs, {proof.stock_levels:,} stock levels, "
        f"{proof.adjustments:,} adjustments, {proof.counts:,} counts. All add up."
    )
    if kept:
        typer.echo(
            f"Its {kept.adjustments:,} adjustments until {format_instant(kept.until)} are "
            "unchanged since the head was taken."
        )
    typer.echo(proof.head)


@app.command("import")
def import_command(  # noqa: PLR0917 - options have names
    file: Annotated[str, typer.Argument(help="A file in UTF-8, or - for standard input.")],
    tenant: TenantOption,
    kind: Annotated[FileKind, typer.Option(help="What its rows are.")] = FileKind.COUNTS,
    form: FormatOption = None,
    dry_run: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--dry-run", help="Check everything, change nothing.")
    ] = False,
    errors: Annotated[
        Path | None,
        typer.Option(help="Where bad rows are listed: JSON Lines if it ends so, or CSV."),
    ] = None,
    run: Annotated[str, typer.Option(help="A name, to import the same counts another time.")] = "",
    by: Annotated[str, typer.Option(help="Who the ledger says has done it.")] = "inventory import",
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Import SKUs, warehouses, stock levels or counts from CSV or JSON Lines.

    skus: sku, title. warehouses: id, name, type, address, marketplace, is_active. levels: sku,
    warehouse_id, on_hand, safety_stock. counts: sku, warehouse_id, quantity, reason, note. All is
    checked first: one bad row, and nothing is changed. An import that was ended goes on when it
    is started again.
    """
    form = form or _format_of(file)

    async def work(database: Database) -> importing.ImportTally:
        await _require_tenant(database, tenant)
        mine = importing.run_of(staging, tenant, name=run, created_by=by)
        tally = await importing.validate(database, staging, mine, _show)
        return tally if dry_run else await importing.write(database, staging, mine, _show)

    staging = Staging(kind)
    try:
        with _source(file) as source:
            staging.read(source, form, _show)
        tally = asdict(_with_database(work))
    finally:
        _show("", None)
        _report(staging, errors)
        staging.close()
    if json:
        _print_json({"kind": kind, "dry_run": dry_run, **tally})
    else:
        told = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in tally.items())
        typer.echo(f"{kind}{' (dry run, nothing is changed)' if dry_run else ''}: {told}.")


@app.command("export")
def export_command(  # noqa: PLR0917 - options have names
    subject: Annotated[ExportSubject, typer.Argument(help="What to export.")],
    tenant: TenantOption,
    form: FormatOption = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A file, or - for standard output.")
    ] = "-",
    warehouse: Annotated[str | None, typer.Option(help="Of one warehouse alone.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Ledger: from this instant in UTC on.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Ledger: before this instant in UTC.")
    ] = None,
) -> None:
    """Export stock or ledger as CSV or JSON Lines, as they are at one instant."""
    if subject is ExportSubject.STOCK and (since or until):
        raise typer.BadParameter("--since and --until are for the ledger")
    asked = ExportFilter(
        warehouse_id=warehouse,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )
    form = form or _format_of(output)

    async def work(database: Database) -> None:
        await _require_tenant(database, tenant)
        with _target(output) as target:
            await export(database, tenant, subject, asked, form=form, target=target, progress=_show)

    try:
        _with_database(work)
    except BrokenPipeError:
        # Whoever read has seen enough; Python shall not try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        _show("", None)


@tenant_app.command("create")
def tenant_create(
    tenant: Annotated[str, typer.Argument(help="Its id: 1 to 32 of a-z, 0-9 and _.")],
    name: Annotated[
        str | None, typer.Option(help="What people call it; the id if not said.")
    ] = None,
) -> None:
    """Create a tenant."""

    async def work(database: Database) -> None:
        await require_full_access(database)
        await tenants.create_tenant(database, tenant, name=name or tenant)

    _with_database(work)
    typer.echo(f"Created {tenant}. Next: inventory token create {tenant} --name .. --email ..")


@tenant_app.command("update")
def tenant_update(
    tenant: TenantArgument,
    permit_oversell: Annotated[
        bool,
        typer.Option(
            "--permit-oversell/--refuse-oversell",
            help="Whether a reservation may ask for more than is available (allowOversell).",
        ),
    ],
) -> None:
    """Say what a tenant permits."""

    async def work(database: Database) -> None:
        await require_full_access(database)
        await tenants.permit_oversell(database, tenant, permitted=permit_oversell)

    _with_database(work)
    typer.echo(f"{tenant} {'permits' if permit_oversell else 'refuses'} oversell.")


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
        await require_full_access(database)
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
        await require_full_access(database)
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
        await require_full_access(database)
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
        await require_full_access(database)
        overlap = timedelta(hours=overlap_hours)
        return await tenants.rotate_token(database, tenant, token_id, overlap=overlap)

    _print_token(_with_database(work), json=json)


def _print_token(token: tenants.NewToken, *, json: bool) -> None:
    if json:
        expires_at = format_instant(token.expires_at) if token.expires_at else None
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
        await require_matching_role(database)
    except (NotCurrent, WrongRole):
        raise
    except Unavailable as error:
        # It may come back while requests are answered with 503; /readyz asks again.
        log.warning("database_away", message=error.message, cause=error.cause)


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


async def _require_tenant(database: Database, tenant: str) -> None:
    await require_full_access(database)
    async with database.snapshot() as snapshot:
        if tenant not in await list_tenants(snapshot):
            raise tenants.tenant_not_found(tenant)


def _format_of(file: str) -> FileFormat:
    return FileFormat.JSONL if file.endswith((".jsonl", ".ndjson")) else FileFormat.CSV


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as source:
        yield source


@contextmanager
def _target(file: str) -> Iterator[BinaryIO]:
    """Open what is written to; a file is there when it is whole, and not before."""
    if file == "-":
        yield sys.stdout.buffer
        return
    path = Path(file)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _report(staging: Staging, errors: Path | None) -> None:
    """List the bad rows in a file, or on standard error."""
    if errors is None:
        for line, reason in staging.problems():
            typer.echo(f"line {line}: {reason}", err=True)
        return
    with errors.open("w", encoding="utf-8", newline="") as file:
        if _format_of(errors.name) is FileFormat.JSONL:
            for line, reason in staging.problems():
                file.write(orjson.dumps({"line": line, "reason": reason}).decode() + "\n")
            return
        writer = csv.writer(file)
        writer.writerow(["line", "reason"])
        writer.writerows(staging.problems())


def _show(what: str, number: int | None) -> None:
    """Show on a terminal how far it is; None clears the line."""
    if sys.stderr.isatty():
        text = f"{number:,} {what}" if number is not None else ""
        typer.echo(f"\r{text:<40}\r", err=True, nl=False)


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
