"""The commands `inventory demo` and `inventory serve`."""

import os
import re
import shutil
import signal
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.database import run_with_database, settings_for
from app.cli.options import DatabaseOption, with_examples

if TYPE_CHECKING:
    from app.database.engine import Database

HOST: Final = "127.0.0.1"
DEMO_GREETING: Final = """\
The demo is ready: 1,248 SKUs in three warehouses. Press Ctrl+C to stop it and delete its data.

  GraphiQL        {base}/graphql
  REST reference  {base}/docs
  Live stock      {base}/live
  Shop            {base}/shop
  Tokens          demo-shop, demo-read, demo-write, demo-admin

  curl -H 'Authorization: Bearer demo-read' {base}/api/inventory/SKU-001

  curl {base}/graphql \\
    -H 'Authorization: Bearer demo-read' -H 'Content-Type: application/json' \\
    -d '{{"query": "{{ skus(first: 3) {{ totalCount nodes {{ sku status totalAvailable }} }} }}"}}'
"""
SERVE_GREETING: Final = """\
Serving the database {where}. Press Ctrl+C to stop.

  GraphQL         {base}/graphql
  REST reference  {base}/docs
"""
NO_TENANT: Final = """
  There is no tenant yet. Create one with a token:

    inventory tenant create acme
    inventory token create acme --name shop --email you@example.com --scope inventory:write
"""

serving_commands = typer.Typer()


@serving_commands.command(
    "demo",
    epilog=with_examples(
        "inventory demo",
        "inventory demo --open",
        "inventory demo --port 9000 --database-url postgresql://localhost/demo",
    ),
)
def demo(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")
    ] = 8000,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An empty database or the database of an earlier demo; by default a temporary "
            "file.",
        ),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open GraphiQL in the browser.")
    ] = False,
) -> None:
    """Start the service on localhost with example data and public tokens."""
    from app.cli.listening import listening, run_server, url_of
    from app.demo import prepare_demo
    from app.main import create_app

    directory = Path(tempfile.mkdtemp(prefix="inventory-demo-"))
    # uvicorn raises the signal again after its shutdown. The exit then runs the `finally` below.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        settings = settings_for(
            database_url or f"sqlite:///{directory}/demo.db",
            page_token="demo-admin",  # noqa: S106 - public by design
            shop_token="demo-shop",  # noqa: S106 - public by design
            log_level="warning",
            metrics=True,
            webhooks_to_loopback=True,
        )
        with listening(HOST, port) as listener:
            base = url_of(listener)
            run_with_database(prepare_demo, settings, creates=True)

            def greet() -> None:
                typer.echo(DEMO_GREETING.format(base=base))
                if open_browser:
                    webbrowser.open(f"{base}/graphql")

            run_server(create_app(settings), settings, listener, on_ready=greet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@serving_commands.command(
    "serve",
    epilog=with_examples(
        "inventory serve",
        "inventory serve --host 0.0.0.0 --port 8000 --workers 4",
        "inventory serve --uds /run/inventory.sock",
        "inventory serve --root-path /inventory",
    ),
)
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = HOST,
    port: Annotated[
        int,
        typer.Option(
            envvar="PORT", min=0, max=65_535, help="The port to listen on; 0 takes a free one."
        ),
    ] = 8000,
    uds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Listen on a Unix socket instead of a port."),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="The path prefix at which a proxy publishes the service, such as /inventory. The "
            "proxy must remove it from requests.",
        ),
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="The number of worker processes.")] = 1,
    database_url: DatabaseOption = None,
) -> None:
    """Start the service.

    A SQLite database is created and migrated first. A PostgreSQL database must be current; run
    `inventory migrate` before.
    """
    from app.cli.listening import listening, run_server, serving_metrics, url_of
    from app.database.address import describe_address, parse_address
    from app.runtime.observation import require_opentelemetry

    if root_path and not re.fullmatch(r"(/[\w.~-]+)+", root_path, re.ASCII):
        raise typer.BadParameter("--root-path must be a path without a / at its end")
    settings = settings_for(database_url)
    if settings.tracing:
        # A worker that fails at its start would be started again and again.
        require_opentelemetry()
    # Each worker builds its application from the environment.
    os.environ["DATABASE_URL"] = settings.database_url
    os.environ.pop("DATABASE_URL_FILE", None)
    with listening(host, port, uds) as listener, serving_metrics(settings, host, workers):
        lacks_tenants = run_with_database(
            _prepare, settings, creates=True, log_level=settings.log_level
        )
        where = describe_address(parse_address(settings.database_url))
        greeting = SERVE_GREETING.format(where=where, base=url_of(listener))
        if lacks_tenants:
            greeting += NO_TENANT

        def greet() -> None:
            if sys.stderr.isatty():
                typer.echo(greeting, err=True)

        application = "app.__main__:create_app"
        run_server(
            application,
            settings,
            listener,
            on_ready=greet,
            workers=workers,
            root_path=root_path,
        )


async def _prepare(database: "Database") -> bool:
    """Migrate a SQLite database or check a PostgreSQL database; return whether it lacks tenants."""
    import structlog

    from app.database.migration import (
        NotCurrent,
        WrongRole,
        is_restricted_role,
        migrate,
        require_current,
        require_matching_role,
    )
    from app.database.poolers import UnfitPooler, require_fit_pooler
    from app.database.replication import UnrelatedReplica, require_replica_of
    from app.errors import Unavailable
    from app.reads.tenants import list_tenants

    log = structlog.get_logger()
    try:
        await require_replica_of(database, database.replica)
    except UnrelatedReplica:
        raise
    except Unavailable as error:
        log.warning("replica_unreachable", message=error.message, cause=error.cause)
    try:
        await require_fit_pooler(database)
        if database.dialect == "sqlite":
            await migrate(database)
        await require_current(database)
        await require_matching_role(database)
        # A role that sees one tenant at a time lists none.
        if await is_restricted_role(database):
            return False
        async with database.snapshot() as snapshot:
            return not await list_tenants(snapshot)
    except (NotCurrent, UnfitPooler, WrongRole):
        raise
    except Unavailable as error:
        if database.dialect == "sqlite":
            raise
        # The service starts anyway: until the database is back, requests get 503.
        log.warning("database_unreachable", message=error.message, cause=error.cause)
        return False
