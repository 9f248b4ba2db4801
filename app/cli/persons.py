"""The command `inventory person`."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.options import DatabaseOption, TenantArgument, with_examples

if TYPE_CHECKING:
    from app.database.engine import Database

person_commands = typer.Typer(help="Manage the persons that a ledger names.", no_args_is_help=True)


@person_commands.command(
    "erase", epilog=with_examples("inventory person erase acme anna@example.com")
)
def person_erase(
    tenant_id: TenantArgument,
    email: Annotated[str, typer.Argument(help="The e-mail address, as the ledger shows it.")],
    *,
    database_url: DatabaseOption = None,
) -> None:
    """Erase a person's e-mail address. The ledger keeps what the person did, by "erased".

    The tokens of the person must be revoked first; their names are erased, too. Notes are texts of
    your users and are not searched. Outcomes that are stored for repeated requests may contain the
    address for up to 24 hours.
    """
    from app.writes.persons import erase_person

    async def work(database: "Database") -> None:
        await require_tenant(database, tenant_id)
        await erase_person(database, tenant_id, email)

    run_with_database(work, settings_for(database_url))
    typer.echo(f"Erased {email} from {tenant_id}.")
