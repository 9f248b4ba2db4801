"""Deletion of a tenant: all its rows, in bounded steps.

The first step marks the tenant and deletes its tokens: from then on it is not served, and the
triggers of the ledger let its adjustments be deleted. The last step deletes the row of the tenant.
A deletion that was killed is continued by another one.
"""

import asyncio
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Final

from sqlalchemy import (
    Executable,
    Integer,
    Table,
    delete,
    literal_column,
    select,
    tuple_,
    update,
)

from app.database.clocks import Present
from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.schema import METADATA
from app.database.session import DriverSession
from app.database.tables import api_token, tenant
from app.writes.tenants import tenant_not_found

# The most rows of a table in a step, and a step ends after so many. On SQLite the writes of other
# tenants wait for a step.
DELETED_ROWS: Final = 1_000
# Every row is deleted after the rows that refer to it, and the row of the tenant after all others.
TABLES_TO_DELETE: Final = (
    *(table for table in reversed(METADATA.sorted_tables) if table is not tenant),
    tenant,
)


async def delete_tenant(
    database: Database, tenant_id: str, *, progress: Callable[[int], None]
) -> int:
    """Delete a tenant with all its rows; return their number. Continues an earlier deletion.

    Raises:
        NotFound: the tenant does not exist.

    """
    deleted = await database.write(partial(_mark, tenant_id), tenant_id)
    is_complete = False
    while not is_complete:
        began = time.monotonic()
        rows, is_complete = await database.write(partial(_delete_rows, tenant_id), tenant_id)
        deleted += rows
        progress(deleted)
        # Half of the time is left to the writes of other tenants.
        await asyncio.sleep(time.monotonic() - began)
    return deleted


async def _mark(tenant_id: str, session: DriverSession) -> int:
    """Mark a tenant and delete its tokens; return their number."""
    is_tenant = tenant.c.tenant_id == tenant_id
    if not await session.execute(select(tenant.c.tenant_id).where(is_tenant)):
        raise tenant_not_found(tenant_id)
    is_unmarked = tenant.c.deleted_since.is_(None)
    await session.execute(
        update(tenant).where(is_tenant, is_unmarked).values(deleted_since=Present())
    )
    tokens = delete(api_token).where(api_token.c.tenant_id == tenant_id)
    return len(await session.execute(tokens.returning(api_token.c.id)))


async def _delete_rows(tenant_id: str, session: DriverSession) -> tuple[int, bool]:
    """Delete the next rows; return their number, and whether they were the last ones."""
    deleted = 0
    for table in TABLES_TO_DELETE:
        rows = await session.rows(_delete_some(table), {"tenant_id": tenant_id})
        deleted += len(rows)
        if len(rows) == DELETED_ROWS:
            return deleted, False
    return deleted, True


@cache
def _delete_some(table: Table) -> Executable:
    """Return the DELETE of DELETED_ROWS rows of a tenant."""
    # PostgreSQL plans by the number, which it would not know of a parameter.
    number = literal_column(str(DELETED_ROWS), Integer)
    some = select(*table.primary_key).where(table.c.tenant_id == TENANT).limit(number)
    is_one = tuple_(*table.primary_key).in_(some)
    return (
        delete(table)
        .where(table.c.tenant_id == TENANT, is_one)
        .returning(literal_column("1").label("deleted"))
    )
