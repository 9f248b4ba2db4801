"""Compares the acknowledgements of clients with the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import text

from app.database.engine import Database
from app.ledger.verification import verify_tenant
from app.settings import Settings


class Broken(Exception):
    """A promise was not kept; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry. Facts that a client did not receive are None."""

    sku: str
    warehouse_id: str
    after: int
    before: int | None = None
    id: str | None = None


# By `entry_key`.
Entries = Mapping[str, Entry]


def entry_key(note: str | None, entry: Entry) -> str:
    """Name of an entry: the client's note with the stock level, or the id of one without a note.

    No write of a client changes a level twice, so two entries with one key are one too many.
    """
    return f"{note} {entry.sku} {entry.warehouse_id}" if note else f"{entry.id}"


async def audit(database_url: str, tenant_id: str, acknowledged: Entries) -> int:
    """Verify a tenant's ledger and compare it with the acknowledgements. Returns its length.

    Raises:
        LedgerBroken: the ledger is inconsistent.
        Broken: an entry was lost, doubled, changed or made up.

    """
    database = Database(Settings(database_url=database_url))
    await verify_tenant(database, tenant_id)
    statement = text(
        "SELECT note, sku, warehouse_id, after_quantity, before_quantity, id FROM adjustment"
        " WHERE tenant_id = :tenant"
    )
    async with database.snapshot() as snapshot:
        rows = await snapshot.rows(statement, {"tenant": tenant_id})
    await database.dispose()
    ledger = ((note, Entry(*entry)) for note, *entry in rows)
    compare(acknowledged, ((entry_key(note, entry), entry) for note, entry in ledger))
    return len(rows)


def compare(acknowledged: Entries, ledger: Iterable[tuple[str, Entry]]) -> None:
    """Find the first entry that was lost, doubled, changed or made up.

    Raises:
        Broken: names the entry.

    """
    stored_entries: dict[str, Entry] = {}
    for note, entry in ledger:
        if note in stored_entries:
            message = f"doubled: {note} is stored as {stored_entries[note]} and as {entry}"
            raise Broken(message)
        stored_entries[note] = entry
    for note, sent in acknowledged.items():
        stored = stored_entries.pop(note, None)
        if stored is None:
            message = f"lost: {note} was acknowledged as {sent}"
            raise Broken(message)
        for figure in ("sku", "warehouse_id", "after", "before", "id"):
            if getattr(sent, figure) not in (None, getattr(stored, figure)):
                message = f"changed: {note} was acknowledged as {sent}, and is {stored}"
                raise Broken(message)
    for note, entry in stored_entries.items():
        message = f"made up: no client was told of {note}, {entry}"
        raise Broken(message)
