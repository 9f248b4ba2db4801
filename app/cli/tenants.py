"""The commands `inventory tenant` and `inventory token`."""

from datetime import timedelta
from typing import Annotated, Final

import typer

from app.cli.database import require_tenant, run_with_database
from app.cli.output import JsonOption, print_json
from app.database.engine import Database
from app.database.migration import require_full_access
from app.domain.caller import Scope
from app.domain.instants import format_instant
from app.reads.tenants import list_tokens
from app.writes import tenants

MAX_OVERLAP_HOURS: Final = 24 * 90
MAX_TOKEN_DAYS: Final = 3_650
TenantArgument = Annotated[str, typer.Argument(help="The id of a tenant.")]
TokenArgument = Annotated[
    str, typer.Argument(help="The id of a token (tok_...); `token list` prints it.")
]

tenant_app = typer.Typer(help="Manage tenants, the customers of the service.", no_args_is_help=True)
token_app = typer.Typer(help="Manage the API tokens of a tenant.", no_args_is_help=True)


@tenant_app.command("create")
def tenant_create(
    tenant_id: Annotated[
        str, typer.Argument(help="The id: 1 to 32 of a-z, 0-9 and _, a letter first.")
    ],
    name: Annotated[str | None, typer.Option(help="The display name; by default the id.")] = None,
) -> None:
    """Create a tenant."""

    async def work(database: Database) -> None:
        await require_full_access(database)
        await tenants.create_tenant(database, tenant_id, name=name or tenant_id)

    run_with_database(work)
    typer.echo(
        f"Created {tenant_id}. Next: inventory token create {tenant_id} --name .. --email .."
    )


@tenant_app.command("update")
def tenant_update(
    tenant_id: TenantArgument,
    permit_oversell: Annotated[
        bool,
        typer.Option(
            "--permit-oversell/--refuse-oversell",
            help="Whether reservations with allowOversell may exceed the available stock.",
        ),
    ],
) -> None:
    """Change the permissions of a tenant."""

    async def work(database: Database) -> None:
        await require_full_access(database)
        await tenants.permit_oversell(database, tenant_id, permitted=permit_oversell)

    run_with_database(work)
    typer.echo(f"{tenant_id} {'permits' if permit_oversell else 'refuses'} oversell.")


@token_app.command("create")
def token_create(  # noqa: PLR0917 - options have names
    tenant_id: TenantArgument,
    name: Annotated[str, typer.Option(help="The purpose of the token.")],
    email: Annotated[
        str, typer.Option(help="The e-mail address of the owner, which the ledger records.")
    ],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="A scope; repeat the option for several. By default inventory:read."),
    ] = None,
    expires_in_days: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_TOKEN_DAYS, help="The lifetime; by default unlimited."),
    ] = None,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Create a token and print it. Only its hash is stored, so it cannot be printed again."""

    async def work(database: Database) -> tenants.NewToken:
        await require_full_access(database)
        return await tenants.create_token(
            database,
            tenant_id,
            name=name,
            email=email,
            scopes=scope or [Scope.READ],
            expires_in=timedelta(days=expires_in_days) if expires_in_days else None,
        )

    _print_token(run_with_database(work), json=json)


@token_app.command("list")
def token_list(
    tenant_id: TenantArgument,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the tokens of a tenant, without their secrets."""

    async def work(database: Database) -> list[dict[str, object]]:
        await require_tenant(database, tenant_id)
        async with database.snapshot() as snapshot:
            return await list_tokens(snapshot, tenant_id)

    tokens = run_with_database(work)
    if json:
        print_json(tokens)
        return
    for token in tokens:
        typer.echo("  ".join(f"{name}={value}" for name, value in token.items() if value))


@token_app.command("revoke")
def token_revoke(tenant_id: TenantArgument, token_id: TokenArgument) -> None:
    """Revoke a token. Workers accept it for up to INVENTORY_TOKEN_CACHE_SECONDS more."""

    async def work(database: Database) -> None:
        await require_full_access(database)
        await tenants.revoke_token(database, tenant_id, token_id)

    run_with_database(work)
    typer.echo(f"Revoked {token_id}.")


@token_app.command("rotate")
def token_rotate(
    tenant_id: TenantArgument,
    token_id: TokenArgument,
    overlap_hours: Annotated[
        float,
        typer.Option(min=0, max=MAX_OVERLAP_HOURS, help="The hours until the old token expires."),
    ] = 24,
    json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Create a token with the properties of another and print it. The old token then expires."""

    async def work(database: Database) -> tenants.NewToken:
        await require_full_access(database)
        overlap = timedelta(hours=overlap_hours)
        return await tenants.rotate_token(database, tenant_id, token_id, overlap=overlap)

    _print_token(run_with_database(work), json=json)


def _print_token(token: tenants.NewToken, *, json: bool) -> None:
    if json:
        expires_at = format_instant(token.expires_at) if token.expires_at else None
        print_json({"id": token.id, "token": token.token, "expires_at": expires_at})
    else:
        typer.echo(token.token)
