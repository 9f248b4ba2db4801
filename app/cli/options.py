"""Options and help texts that several commands share."""

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


class BadOption(Exception):
    """The value of an option is not valid."""


def with_examples(*lines: str) -> str:
    """Return the end of a help text, with examples."""
    # Without the first character, lines would be joined.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
