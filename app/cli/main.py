"""The command `inventory`: its subcommands, and errors as one line.

Modules of commands import the service inside their functions, so that `--help` and the completion
of words in a shell do not wait for it.
"""

import sys
from typing import Annotated

import typer

from app.cli import (
    database,
    doctor,
    exports,
    imports,
    ledger,
    persons,
    schema,
    serving,
    tenants,
    warehouses,
    webhooks,
)
from app.cli.options import with_examples
from app.cli.output import printable

app = typer.Typer(
    help="The inventory service: stock levels across warehouses, over GraphQL and REST.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=with_examples(
        "inventory demo --open",
        "inventory serve --host 0.0.0.0 --port 8000",
        "inventory tenant create acme",
    ),
)


def _print_version(value: bool) -> None:  # noqa: FBT001 - Typer calls it
    if value:
        from importlib.metadata import version

        typer.echo(f"inventory {version('inventory-api')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Define the options of `inventory` without a subcommand."""
    _ = version


app.add_typer(serving.serving_commands)
app.add_typer(database.database_commands)
app.add_typer(doctor.doctor_commands)
app.add_typer(tenants.tenant_commands, name="tenant")
app.add_typer(tenants.token_commands, name="token")
app.add_typer(persons.person_commands, name="person")
app.add_typer(warehouses.warehouse_commands, name="warehouse")
app.add_typer(webhooks.webhook_commands, name="webhook")
app.add_typer(imports.import_commands)
app.add_typer(exports.export_commands)
app.add_typer(ledger.ledger_commands)
app.add_typer(schema.schema_commands)


def main() -> None:
    """Run the command. An error is printed as one line, with a non-zero exit status."""
    try:
        app()
    except Exception as error:
        from app.cli.failures import explain

        message = explain(error)
        if message is None:
            raise
        typer.echo(printable(f"inventory: {message}"), err=True)
        sys.exit(1)
