"""The command `inventory schema`."""

import typer

from app.cli.options import with_examples

schema_commands = typer.Typer()


@schema_commands.command("schema", epilog=with_examples("inventory schema > schema.graphql"))
def schema_command() -> None:
    """Print the GraphQL schema (SDL), the content of schema.graphql."""
    from app.graphql.schema.schema import schema

    typer.echo(schema.as_str())
