"""The commands `inventory demo` and `inventory serve`."""

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
import typer
import uvicorn

from app.cli.database import run_with_database
from app.database.engine import Database
from app.database.migration import (
    NotCurrent,
    WrongRole,
    migrate,
    require_current,
    require_matching_role,
)
from app.demo import prepare_demo
from app.errors import Unavailable
from app.http.logs import configure_logs
from app.http.uvicorn_protocol import bounded_protocol
from app.main import create_app
from app.settings import Settings

log = structlog.get_logger()
HOST: Final = "127.0.0.1"
GRACE_SECONDS: Final = 10
DEMO_GREETING: Final = """\
The demo is ready: 1,248 SKUs in two warehouses. Press Ctrl+C to stop it and delete its data.

  GraphiQL        {base}/graphql
  REST reference  {base}/docs
  Tokens          demo-read, demo-write, demo-admin

  curl -H 'Authorization: Bearer demo-read' {base}/api/inventory/SKU-001

  curl {base}/graphql \\
    -H 'Authorization: Bearer demo-read' -H 'Content-Type: application/json' \\
    -d '{{"query": "{{ skus(first: 3) {{ totalCount nodes {{ sku status totalAvailable }} }} }}"}}'
"""
PortOption = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on.")]


def demo(
    port: PortOption = 8000,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="An empty database or the database of an earlier demo; by default a temporary "
            "file."
        ),
    ] = None,
) -> None:
    """Start the service on localhost with example data and public tokens."""
    directory = Path(tempfile.mkdtemp(prefix="inventory-demo-"))
    # uvicorn raises the signal again after its shutdown. The exit then runs the `finally` below.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        settings = Settings(
            database_url=database_url or f"sqlite+aiosqlite:///{directory}/demo.db",
            page_token="demo-write",  # noqa: S106 - public by design
            log_level="warning",
        )
        run_with_database(prepare_demo, settings)
        typer.echo(DEMO_GREETING.format(base=f"http://{HOST}:{port}"))
        uvicorn.run(create_app(settings), host=HOST, port=port, **server_options(settings))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = HOST,
    port: PortOption = 8000,
    workers: Annotated[int, typer.Option(min=1, help="The number of worker processes.")] = 1,
) -> None:
    """Start the service on DATABASE_URL.

    A SQLite database is migrated first. A PostgreSQL database must be current; run
    `inventory migrate` before.
    """
    settings = Settings()
    configure_logs(settings.log_level)
    run_with_database(_prepare, settings)
    uvicorn.run(
        "app.__main__:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        **server_options(settings),
    )


def server_options(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn besides the application and the address."""
    return {
        "loop": "app.runtime.fair_loop:FairLoop",
        "http": bounded_protocol(settings),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }


async def _prepare(database: Database) -> None:
    """Migrate a SQLite database; check that a PostgreSQL database is current."""
    if database.dialect == "sqlite":
        await migrate(database)
        return
    try:
        await require_current(database)
        await require_matching_role(database)
    except (NotCurrent, WrongRole):
        raise
    except Unavailable as error:
        # The service starts anyway: until the database is back, requests get 503.
        log.warning("database_unreachable", message=error.message, cause=error.cause)
