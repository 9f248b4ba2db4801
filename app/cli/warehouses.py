"""The command `inventory warehouse`."""

from typing import TYPE_CHECKING

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.options import DatabaseOption, JsonOption, TenantArgument, with_examples
from app.cli.output import print_rows

if TYPE_CHECKING:
    from app.database.engine import Database
    from app.domain.records import WarehouseRecord

warehouse_commands = typer.Typer(help="List the warehouses of a tenant.", no_args_is_help=True)


# A callback keeps a group with one command a group.
@warehouse_commands.callback()
def warehouses() -> None:
    """List the warehouses of a tenant."""


@warehouse_commands.command("list", epilog=with_examples("inventory warehouse list acme --json"))
def warehouse_list(
    tenant_id: TenantArgument, *, json: JsonOption = False, database_url: DatabaseOption = None
) -> None:
    """List the warehouses of a tenant, inactive ones included."""
    from msgspec.structs import asdict

    from app.reads.warehouses import list_warehouses

    async def work(database: "Database") -> "list[WarehouseRecord]":
        await require_tenant(database, tenant_id)
        async with database.snapshot() as snapshot:
            return await list_warehouses(snapshot, tenant_id)

    records = run_with_database(work, settings_for(database_url))
    # The list does not read the details.
    rows = [
        {name: value for name, value in asdict(record).items() if name != "details"}
        for record in records
    ]
    print_rows(
        rows,
        json=json,
        empty=f"{tenant_id} has no warehouses; `inventory import --kind warehouses` adds some.",
    )
