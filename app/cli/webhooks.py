"""The command `inventory webhook`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.database import require_tenant, run_with_database, settings_for
from app.cli.options import DatabaseOption, JsonOption, TenantArgument, with_examples
from app.cli.output import print_json, print_rows
from app.domain.changes import ChangeType
from app.domain.signatures import SignatureKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from msgspec import Struct

    from app.database.engine import Database
    from app.domain.webhooks import AttemptRecord, WebhookRecord
    from app.writes.webhooks import SignedWebhook

WebhookArgument = Annotated[
    str, typer.Argument(help="The id of a webhook (whk_...); `inventory webhook list` prints it.")
]

webhook_commands = typer.Typer(
    help="Manage the webhooks of a tenant, which send its changes to URLs.", no_args_is_help=True
)


@webhook_commands.command(
    "create",
    epilog=with_examples(
        "inventory webhook create acme https://shop.example/stock",
        "inventory webhook create acme https://shop.example/stock --type stock_changed",
    ),
)
def webhook_create(
    tenant_id: TenantArgument,
    url: Annotated[str, typer.Argument(help="The URL of the endpoint, https://..")],
    *,
    type_: Annotated[
        list[ChangeType] | None,
        typer.Option("--type", help="A type of change to send; repeat it. By default all types."),
    ] = None,
    warehouse: Annotated[
        list[str] | None,
        typer.Option(help="The id of a warehouse whose changes are sent; repeat it."),
    ] = None,
    signature: Annotated[
        SignatureKind, typer.Option(help="How messages are signed.")
    ] = SignatureKind.HMAC,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Create a webhook for the changes that follow, and print its secret or its public key.

    A secret cannot be printed again.
    """
    from app.writes.webhooks import create_webhook

    async def work(database: "Database") -> "SignedWebhook":
        return await create_webhook(
            database,
            tenant_id,
            url=url,
            types=type_ or None,
            warehouse_ids=warehouse or None,
            signature=signature,
        )

    _print_signed(_run(tenant_id, work, database_url), json=json)


@webhook_commands.command("list", epilog=with_examples("inventory webhook list acme"))
def webhook_list(
    tenant_id: TenantArgument, *, json: JsonOption = False, database_url: DatabaseOption = None
) -> None:
    """List the webhooks of a tenant with the outcome of the last attempt, without secrets."""
    from app.domain.webhooks import MAX_WEBHOOKS
    from app.reads.webhooks import list_webhooks

    async def work(database: "Database") -> "list[WebhookRecord]":
        async with database.snapshot() as snapshot:
            return await list_webhooks(snapshot, tenant_id, limit=MAX_WEBHOOKS)

    print_rows(
        [_row(record) for record in _run(tenant_id, work, database_url)],
        json=json,
        empty=f"{tenant_id} has no webhooks; `inventory webhook create` makes one.",
    )


@webhook_commands.command("log", epilog=with_examples("inventory webhook log acme whk_01HX"))
def webhook_log(
    tenant_id: TenantArgument,
    webhook_id: WebhookArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="The most attempts to print.")] = 20,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """List the newest attempts of a webhook, newest first, with the answer and the duration."""
    from app.reads.webhooks import list_attempts

    async def work(database: "Database") -> "list[AttemptRecord]":
        async with database.snapshot() as snapshot:
            return await list_attempts(snapshot, tenant_id, webhook_id, limit=limit)

    print_rows(
        [_row(record) for record in _run(tenant_id, work, database_url)],
        json=json,
        empty=f"{webhook_id} has no attempts.",
    )


@webhook_commands.command("pause", epilog=with_examples("inventory webhook pause acme whk_01HX"))
def webhook_pause(
    tenant_id: TenantArgument, webhook_id: WebhookArgument, *, database_url: DatabaseOption = None
) -> None:
    """Stop sending to a webhook. It keeps its position."""
    _set_paused(tenant_id, webhook_id, database_url, is_paused=True)
    typer.echo(f"Paused {webhook_id}.")


@webhook_commands.command("resume", epilog=with_examples("inventory webhook resume acme whk_01HX"))
def webhook_resume(
    tenant_id: TenantArgument, webhook_id: WebhookArgument, *, database_url: DatabaseOption = None
) -> None:
    """Activate a paused or disabled webhook. It goes on where it stopped."""
    _set_paused(tenant_id, webhook_id, database_url, is_paused=False)
    typer.echo(f"Resumed {webhook_id}.")


@webhook_commands.command(
    "rotate", epilog=with_examples("inventory webhook rotate acme whk_01HX --overlap-hours 1")
)
def webhook_rotate(
    tenant_id: TenantArgument,
    webhook_id: WebhookArgument,
    *,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=168, help="The hours for which the old secret signs too.")
    ] = 24,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Replace the secret of a webhook, and print the new one."""
    from app.writes.webhooks import rotate_webhook_secret

    async def work(database: "Database") -> "SignedWebhook":
        overlap = timedelta(hours=overlap_hours)
        return await rotate_webhook_secret(database, tenant_id, webhook_id, overlap=overlap)

    _print_signed(_run(tenant_id, work, database_url), json=json)


@webhook_commands.command(
    "send-again", epilog=with_examples("inventory webhook send-again acme whk_01HX --after 1200")
)
def webhook_send_again(
    tenant_id: TenantArgument,
    webhook_id: WebhookArgument,
    *,
    after: Annotated[int, typer.Option(min=0, help="The position of the feed to send after.")],
    database_url: DatabaseOption = None,
) -> None:
    """Send all changes after a position again."""
    from app.writes.webhooks import send_again

    async def work(database: "Database") -> "WebhookRecord":
        return await send_again(database, tenant_id, webhook_id, after=after)

    _run(tenant_id, work, database_url)
    typer.echo(f"{webhook_id} sends the changes after position {after}.")


@webhook_commands.command("delete", epilog=with_examples("inventory webhook delete acme whk_01HX"))
def webhook_delete(
    tenant_id: TenantArgument, webhook_id: WebhookArgument, *, database_url: DatabaseOption = None
) -> None:
    """Delete a webhook with its log."""
    from app.writes.webhooks import delete_webhook

    async def work(database: "Database") -> "WebhookRecord":
        return await delete_webhook(database, tenant_id, webhook_id)

    _run(tenant_id, work, database_url)
    typer.echo(f"Deleted {webhook_id}.")


def _set_paused(
    tenant_id: str, webhook_id: str, database_url: str | None, *, is_paused: bool
) -> None:
    from app.writes.webhooks import update_webhook

    async def work(database: "Database") -> "WebhookRecord":
        return await update_webhook(database, tenant_id, webhook_id, {"is_paused": is_paused})

    _run(tenant_id, work, database_url)


def _run(
    tenant_id: str, work: "Callable[[Database], Awaitable[Any]]", database_url: str | None
) -> Any:  # noqa: ANN401 - the result of the work
    async def checked(database: "Database") -> object:
        await require_tenant(database, tenant_id)
        return await work(database)

    return run_with_database(checked, settings_for(database_url))


def _row(record: "Struct") -> dict[str, object]:
    from datetime import datetime

    from msgspec.structs import asdict

    from app.domain.instants import format_instant

    return {
        name: format_instant(value)
        if isinstance(value, datetime)
        else " ".join(value)
        if isinstance(value, list)
        else value
        for name, value in asdict(record).items()
    }


def _print_signed(signed: "SignedWebhook", *, json: bool) -> None:
    record, secret = signed
    if json:
        print_json({"id": record.id, "secret": secret, "public_key": record.public_key})
    else:
        typer.echo(f"{record.id}\n{secret or record.public_key}")
