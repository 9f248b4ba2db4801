"""The command `inventory`: its subcommands, and errors as one line."""

import sqlite3
import sys
from typing import Final, NoReturn

import asyncpg
import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from app.cli import database, exports, imports, ledger, serving, tenants
from app.cli.output import BadOption
from app.demo import NotADemoDatabase
from app.errors import InventoryError, Unavailable
from app.files.imports import FileRefused
from app.files.layouts import BadLayout
from app.graphql.schema.schema import schema
from app.graphql.trusted_documents import BadManifest
from app.ledger.replay import LedgerBroken

# Errors whose message is complete.
PLAIN_ERRORS: Final = (
    BadLayout,
    BadManifest,
    BadOption,
    LedgerBroken,
    NotADemoDatabase,
    FileRefused,
)

app = typer.Typer(
    help="The inventory service: stock levels across warehouses, over GraphQL and REST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serving.demo)
app.command()(serving.serve)
app.command("migrate")(database.migrate_command)


@app.command("schema")
def schema_command() -> None:
    """Print the GraphQL schema (SDL), the content of schema.graphql."""
    typer.echo(schema.as_str())


app.command()(ledger.verify)
app.command("import")(imports.import_command)
app.command("export")(exports.export_command)
app.add_typer(tenants.tenant_app, name="tenant")
app.add_typer(tenants.token_app, name="token")


def main() -> None:
    """Run the command. An error is printed as one line, with a non-zero exit status."""
    try:
        app()
    except ValidationError as error:
        _fail("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
    except Unavailable as error:
        _fail(f"{error.message} ({error.cause})" if error.cause else error.message)
    except InventoryError as error:
        _fail(error.message)
    except (DBAPIError, asyncpg.PostgresError, sqlite3.Error) as error:
        _fail(f"The database reports an error: {getattr(error, 'orig', error)}")
    except OSError as error:
        _fail(f"{error.filename or 'the file'}: {error.strerror}")
    except PLAIN_ERRORS as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"inventory: {message}", err=True)
    sys.exit(1)
