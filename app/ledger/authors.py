"""Verifies that the stored e-mail addresses are those of the authors that a ledger names."""

from typing import Any

from sqlalchemy import Select, Table, select

from app.database.parameters import TENANT
from app.database.session import DriverSession
from app.database.tables import adjustment, person, reservation
from app.domain.persons import person_id
from app.ledger.replay import LedgerBroken, stream_rows


async def require_authors(session: DriverSession, tenant_id: str) -> None:
    """Check that every author exists, and that an address which is not erased is the author's own.

    Raises:
        LedgerBroken: names the first break.

    """
    async for row in stream_rows(session, tenant_id, _persons()):
        is_erased = row.email is None and row.salt is None
        if not is_erased and row.id != person_id(row.email or "", row.salt or ""):
            message = f"person {row.id} has an e-mail address that is not the one it was made of"
            raise LedgerBroken(message)
    for table in (adjustment, reservation):
        async for row in stream_rows(session, tenant_id, _without_author(table)):
            message = f"{table.name} {row.id} is by {row.created_by}, who is not among the persons"
            raise LedgerBroken(message)


def _persons() -> Select[Any]:
    columns = (person.c.id, person.c.email, person.c.salt)
    return select(*columns).where(person.c.tenant_id == TENANT).order_by(person.c.id)


def _without_author(table: Table) -> Select[Any]:
    is_author = (person.c.tenant_id == table.c.tenant_id) & (person.c.id == table.c.created_by)
    return (
        select(table.c.id, table.c.created_by)
        .select_from(table.join(person, is_author, isouter=True))
        .where(table.c.tenant_id == TENANT, person.c.id.is_(None))
        .limit(1)
    )
