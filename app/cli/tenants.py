"""The commands `inventory tenant` and `inventory token`."""

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.options import DatabaseOption, JsonOption, TenantArgument, with_examples
from app.cli.output import clear_progress, print_json, print_rows, show_progress
from app.domain.availability import DEFAULT_AVAILABILITY_LIMIT
from app.domain.caller import Scope
from app.domain.quantities import MAX_QUANTITY

if TYPE_CHECKING:
    from app.database.engine import Database
    from app.writes.tenants import NewToken

MAX_OVERLAP_HOURS: Final = 24 * 90
MAX_TOKEN_DAYS: Final = 3_650
# Permissions of a tenant, as the command names them.
PERMITTED: Final = {"oversell": "oversell", "no_expiry": "reservations without an expiry"}
NO_CHANGE: Final = "Say which setting to change; --help lists the options."
TokenArgument = Annotated[
    str, typer.Argument(help="The id of a token (tok_...); `inventory token list` prints it.")
]

tenant_commands = typer.Typer(
    help="Manage tenants, the customers of the service.", no_args_is_help=True
)
token_commands = typer.Typer(help="Manage the API tokens of a tenant.", no_args_is_help=True)


@tenant_commands.command(
    "create", epilog=with_examples('inventory tenant create acme --name "Acme GmbH"')
)
def tenant_create(
    tenant_id: Annotated[
        str, typer.Argument(help="The id: 1 to 32 of a-z, 0-9 and _, a letter first.")
    ],
    *,
    name: Annotated[str | None, typer.Option(help="The display name; by default the id.")] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Create a tenant."""
    from app.database.migration import require_full_access
    from app.writes.tenants import create_tenant

    async def work(database: "Database") -> None:
        await require_full_access(database)
        await create_tenant(database, tenant_id, name=name or tenant_id)

    run_with_database(work, settings_for(database_url))
    typer.echo(
        f"Created {tenant_id}. Next: inventory token create {tenant_id} --name .. --email .."
    )


@tenant_commands.command("list", epilog=with_examples("inventory tenant list --json"))
def tenant_list(*, json: JsonOption = False, database_url: DatabaseOption = None) -> None:
    """List all tenants."""
    from app.database.migration import require_full_access
    from app.reads.tenants import list_tenant_rows

    async def work(database: "Database") -> list[dict[str, object]]:
        await require_full_access(database)
        async with database.snapshot() as snapshot:
            return await list_tenant_rows(snapshot)

    rows = run_with_database(work, settings_for(database_url))
    print_rows(rows, json=json, empty="There are no tenants; `inventory tenant create` makes one.")


@tenant_commands.command(
    "update",
    epilog=with_examples(
        "inventory tenant update acme --permit-oversell",
        "inventory tenant update acme --permit-no-expiry",
        "inventory tenant update acme --availability-limit 20",
    ),
)
def tenant_update(
    tenant_id: TenantArgument,
    *,
    permit_oversell: Annotated[
        bool | None,
        typer.Option(
            "--permit-oversell/--refuse-oversell",
            help="Whether reservations with allowOversell may exceed the available stock.",
        ),
    ] = None,
    permit_no_expiry: Annotated[
        bool | None,
        typer.Option(
            "--permit-no-expiry/--require-expiry",
            help="Whether reservations may be without an expiry.",
        ),
    ] = None,
    availability_limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_QUANTITY,
            help="The largest quantity that tokens with inventory:availability see; at first "
            f"{DEFAULT_AVAILABILITY_LIMIT}.",
        ),
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Change the permissions and the availability limit of a tenant."""
    from app.database.migration import require_full_access
    from app.writes.tenants import set_availability_limit, update_permissions

    permissions = {"oversell": permit_oversell, "no_expiry": permit_no_expiry}
    has_permission = any(permitted is not None for permitted in permissions.values())
    if not has_permission and availability_limit is None:
        raise typer.BadParameter(NO_CHANGE)

    async def work(database: "Database") -> None:
        await require_full_access(database)
        if has_permission:
            await update_permissions(database, tenant_id, **permissions)
        if availability_limit is not None:
            await set_availability_limit(database, tenant_id, availability_limit)

    run_with_database(work, settings_for(database_url))
    for name, permitted in permissions.items():
        if permitted is not None:
            verb = "permits" if permitted else "refuses"
            typer.echo(f"{tenant_id} {verb} {PERMITTED[name]}.")
    if availability_limit is not None:
        typer.echo(f"Frontends of {tenant_id} see up to {availability_limit:,} available.")


@tenant_commands.command(
    "delete",
    epilog=with_examples("inventory tenant delete acme", "inventory tenant delete acme --yes"),
)
def tenant_delete(
    tenant_id: TenantArgument,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete without asking for the id again.")
    ] = False,
    database_url: DatabaseOption = None,
) -> None:
    """Delete a tenant with its stock, its ledger and its tokens. Nothing of it can be restored.

    The rows are deleted in small steps, while the service runs. A deletion that was interrupted is
    continued by the same command. To keep the history, run `inventory export --all` before.
    """
    from app.database.migration import require_full_access
    from app.writes.tenant_deletion import delete_tenant

    if not yes and typer.prompt(f"Type {tenant_id} to delete it") != tenant_id:
        raise typer.BadParameter("the typed id is another one; nothing was deleted")

    async def work(database: "Database") -> int:
        await require_full_access(database)
        progress = partial(show_progress, "rows deleted")
        return await delete_tenant(database, tenant_id, progress=progress)

    try:
        rows = run_with_database(work, settings_for(database_url))
    finally:
        clear_progress()
    typer.echo(f"Deleted {tenant_id}: {rows:,} rows.")


@token_commands.command(
    "create",
    epilog=with_examples(
        "inventory token create acme --name shop --email it@acme.example --scope inventory:write",
        "inventory token create acme --name 3pl --email it@3pl.example --warehouse wh_01HX",
    ),
)
def token_create(
    tenant_id: TenantArgument,
    *,
    name: Annotated[str, typer.Option(help="The purpose of the token.")],
    email: Annotated[
        str, typer.Option(help="The e-mail address of the owner, which the ledger records.")
    ],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="A scope; repeat the option for several. By default inventory:read."),
    ] = None,
    warehouse: Annotated[
        list[str] | None,
        typer.Option(
            help="The id of a warehouse (wh_...) that the token is bound to; repeat the option for "
            "several. Without it, the token is for all warehouses."
        ),
    ] = None,
    expires_in_days: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_TOKEN_DAYS, help="The lifetime; by default unlimited."),
    ] = None,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Create a token and print it. Only its hash is stored, so it cannot be printed again."""
    from app.database.migration import require_full_access
    from app.writes.tenants import create_token

    async def work(database: "Database") -> "NewToken":
        await require_full_access(database)
        return await create_token(
            database,
            tenant_id,
            name=name,
            email=email,
            scopes=scope or [Scope.READ],
            expires_in=timedelta(days=expires_in_days) if expires_in_days else None,
            warehouse_ids=warehouse,
        )

    _print_token(run_with_database(work, settings_for(database_url)), json=json)


@token_commands.command("list", epilog=with_examples("inventory token list acme"))
def token_list(
    tenant_id: TenantArgument, *, json: JsonOption = False, database_url: DatabaseOption = None
) -> None:
    """List the tokens of a tenant, without their secrets."""
    from app.reads.tenants import list_tokens

    async def work(database: "Database") -> list[dict[str, object]]:
        await require_tenant(database, tenant_id)
        async with database.snapshot() as snapshot:
            return await list_tokens(snapshot, tenant_id)

    rows = run_with_database(work, settings_for(database_url))
    print_rows(
        rows, json=json, empty=f"{tenant_id} has no tokens; `inventory token create` makes one."
    )


@token_commands.command("revoke", epilog=with_examples("inventory token revoke acme tok_01HX"))
def token_revoke(
    tenant_id: TenantArgument, token_id: TokenArgument, *, database_url: DatabaseOption = None
) -> None:
    """Revoke a token. Workers accept it for up to INVENTORY_TOKEN_CACHE_SECONDS more."""
    from app.database.migration import require_full_access
    from app.writes.tenants import revoke_token

    async def work(database: "Database") -> None:
        await require_full_access(database)
        await revoke_token(database, tenant_id, token_id)

    run_with_database(work, settings_for(database_url))
    typer.echo(f"Revoked {token_id}.")


@token_commands.command(
    "rotate", epilog=with_examples("inventory token rotate acme tok_01HX --overlap-hours 1")
)
def token_rotate(
    tenant_id: TenantArgument,
    token_id: TokenArgument,
    *,
    overlap_hours: Annotated[
        float,
        typer.Option(min=0, max=MAX_OVERLAP_HOURS, help="The hours until the old token expires."),
    ] = 24,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Create a token with the properties of another and print it. The old token then expires."""
    from app.database.migration import require_full_access
    from app.writes.tenants import rotate_token

    async def work(database: "Database") -> "NewToken":
        await require_full_access(database)
        overlap = timedelta(hours=overlap_hours)
        return await rotate_token(database, tenant_id, token_id, overlap=overlap)

    _print_token(run_with_database(work, settings_for(database_url)), json=json)


def _print_token(token: "NewToken", *, json: bool) -> None:
    from app.domain.instants import format_instant

    if json:
        expires_at = format_instant(token.expires_at) if token.expires_at else None
        print_json({"id": token.id, "token": token.token, "expires_at": expires_at})
    else:
        typer.echo(token.token)
