"""The command `inventory person`."""

from typing import Annotated

import typer

from app.cli.database import require_tenant, run_with_database
from app.cli.tenants import TenantArgument
from app.database.engine import Database
from app.writes import persons

person_app = typer.Typer(help="Manage the persons that a ledger names.", no_args_is_help=True)


@person_app.command("erase")
def person_erase(
    tenant_id: TenantArgument,
    email: Annotated[str, typer.Argument(help="The e-mail address, as the ledger shows it.")],
) -> None:
    """Erase a person's e-mail address. The ledger keeps what the person did, by "erased".

    The tokens of the person must be revoked first; their names are erased, too. Notes are texts of
    your users and are not searched. Outcomes that are stored for repeated requests may contain the
    address for up to 24 hours.
    """

    async def work(database: Database) -> None:
        await require_tenant(database, tenant_id)
        await persons.erase_person(database, tenant_id, email)

    run_with_database(work)
    typer.echo(f"Erased {email} from {tenant_id}.")
