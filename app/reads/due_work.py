"""The tenants that have due work of a background job."""

from functools import cache
from typing import Final

from sqlalchemy import TextClause, text

from app.database.clocks import Present
from app.database.compilation import DIALECTS
from app.database.due_work import INSTANT, TenantSearch
from app.database.snapshot import Snapshot

# The most tenants that a search returns.
MAX_DUE_TENANTS: Final = 100


async def list_due_tenants(snapshot: Snapshot, search: TenantSearch, **arguments: int) -> list[str]:
    """List the ids of tenants with due work, at most MAX_DUE_TENANTS of them in random order.

    An argument for an instant is its distance from now in seconds.
    """
    statement = _search(snapshot.dialect, search, **arguments)
    return [row[0] for row in await snapshot.rows(statement, {})]


@cache
def _search(dialect: str, search: TenantSearch, **arguments: int) -> TextClause:
    values = {"most": str(MAX_DUE_TENANTS)}
    for name, value in arguments.items():
        is_instant = search.parameters[name] == INSTANT
        present = Present(value).compile(dialect=DIALECTS[dialect])
        values[name] = str(present if is_instant else value)
    is_function = dialect == "postgresql"
    return text(search.call(values) if is_function else search.statement(values))
