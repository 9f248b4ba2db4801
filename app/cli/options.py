"""Options and help texts that several commands share."""

from collections.abc import Collection
from typing import Annotated

import typer

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="The address of the database; by default the setting DATABASE_URL. Other users of "
        "the machine can see it in the list of processes.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="The id of the tenant.")]
TenantArgument = Annotated[
    str, typer.Argument(help="The id of a tenant; `inventory tenant list` prints all.")
]


def require_only(context: typer.Context, allowed: Collection[str], subject: str) -> None:
    """Check that a command line has no options but the allowed ones.

    Raises:
        BadParameter: it has another one.

    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source and source.name == "COMMANDLINE" and parameter.name not in allowed:
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
            message = f"{subject} does not take {name}"
            raise typer.BadParameter(message)


class BadOption(Exception):
    """The value of an option is not valid."""


def with_examples(*lines: str) -> str:
    """Return the end of a help text, with examples."""
    # Without the first character, lines would be joined.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
