"""The command `inventory verify`."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.database import run_with_database, settings_for
from app.cli.options import DatabaseOption, JsonOption, with_examples
from app.cli.output import clear_progress, print_json, show_progress

if TYPE_CHECKING:
    from app.database.engine import Database
    from app.domain.hash_chain import Head
    from app.ledger.verification import Proof

ledger_commands = typer.Typer()
_show_replayed = partial(show_progress, "adjustments replayed")


@ledger_commands.command(
    "verify",
    epilog=with_examples(
        "inventory verify",
        "inventory verify --tenant acme --repair",
        "inventory verify --head head_1.acme.31795.5f0c..",
    ),
)
def verify(
    *,
    tenant_id: Annotated[
        str | None, typer.Option("--tenant", help="One tenant; by default all.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Correct the figures that are derived from the ledger.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(help="A head printed earlier: the history until then must be unchanged."),
    ] = None,
    json: JsonOption = False,
    database_url: DatabaseOption = None,
) -> None:
    """Replay the ledger and check every derived figure. The first error ends the command.

    The printed head is a hash of the whole history of a tenant. Store it where users of the
    database cannot change it. With --head any later change of that history is found, even if all
    hashes in the database were recomputed.

    --repair corrects figures that do not follow from the ledger, and lists them on standard error.
    It never changes the ledger, and it refuses a broken ledger.
    """
    from app.domain.hash_chain import parse_head
    from app.ledger.verification import verify_tenant

    kept_head = parse_head(head) if head is not None else None
    if kept_head and tenant_id not in (None, kept_head.tenant_id):
        message = f"--head belongs to the tenant {kept_head.tenant_id}, not to {tenant_id}"
        raise typer.BadParameter(message)
    wanted = kept_head.tenant_id if kept_head else tenant_id

    async def work(database: "Database") -> "list[Proof]":
        proofs = []
        for id_ in await _tenant_ids(database, wanted):
            if repair:
                await _repair(database, id_, kept_head)
            proof = await verify_tenant(database, id_, head=kept_head, progress=_show_replayed)
            clear_progress()
            proofs.append(proof)
            if not json:
                print_proof(proof, kept_head)
        return proofs

    proofs = run_with_database(work, settings_for(database_url))
    if json:
        print_json([proof_as_json(proof) for proof in proofs])
    elif not proofs:
        typer.echo("There are no tenants.")


async def _tenant_ids(database: "Database", wanted: str | None) -> list[str]:
    """Ids of the tenants to verify: the wanted one or all."""
    from app.database.migration import require_full_access
    from app.reads.tenants import list_tenants
    from app.writes.tenants import tenant_not_found

    await require_full_access(database)
    async with database.snapshot() as snapshot:
        tenant_ids = await list_tenants(snapshot)
    if wanted is None:
        return tenant_ids
    if wanted not in tenant_ids:
        raise tenant_not_found(wanted)
    return [wanted]


async def _repair(database: "Database", tenant_id: str, kept_head: "Head | None") -> None:
    from app.ledger.repair import repair_tenant
    from app.ledger.verification import verify_ledger

    await verify_ledger(database, tenant_id, head=kept_head, progress=_show_replayed)
    clear_progress()
    for correction in await repair_tenant(database, tenant_id):
        typer.echo(f"{tenant_id}: repaired: {correction}", err=True)


def print_proof(proof: "Proof", kept_head: "Head | None" = None) -> None:
    """Print the numbers of verified rows, and the head of the ledger."""
    typer.echo(
        f"{proof.tenant_id}: {proof.skus:,} SKUs, {proof.stock_levels:,} stock levels, "
        f"{proof.adjustments:,} adjustments, {proof.counts:,} counts. All add up."
    )
    if kept_head:
        typer.echo(
            f"Its first {kept_head.position:,} adjustments are unchanged since the head was taken."
        )
    typer.echo(proof.head)


def proof_as_json(proof: "Proof") -> dict[str, object]:
    """Return the numbers of verified rows, and the head of the ledger, as JSON."""
    figures = asdict(proof)
    return {"tenant": figures.pop("tenant_id"), **figures}
